package drivers

import "go.uber.org/zap"

// Line is a wire that several devices share, made by LinePlan.Open and lent to
// their drivers by Env.Line. Only the driver of its kind knows more of it.
type Line interface {
	// Endpoint is where the line is, for people. It may be called from any
	// goroutine.
	Endpoint() string
}

// LinePlan is a checked line of the config.
type LinePlan struct {
	// Endpoint is where the line is, for people.
	Endpoint string
	// RTU says that the line has no transaction ids, and that unit 0 is all of
	// its units.
	RTU bool
	// Exclusive says that only one program may have the wire open.
	Exclusive bool
	// Open makes the line without any I/O; its first device opens the wire, its
	// last one closes it.
	Open func(log *zap.Logger) Line
}
