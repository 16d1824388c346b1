// Command sluice is the edge gateway between shop-floor machines and the MES:
// it polls PLCs and scales, turns what they say into production events, keeps
// each event on disk until the central system has it, and shows maintenance
// what is going on. This package is the composition root: one command a file,
// kinds.go for the protocols, gateway.go for the wiring.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Exit codes, as docs/runbook.md lists them.
const (
	exitFailed  = 1  // it did not work
	exitUsage   = 2  // wrong usage or a bad config
	exitStorage = 70 // the buffer is latched: the supervisor restarts from disk
)

// exitError carries the exit code of a command. A nil cause means that the
// command has said everything itself.
type exitError struct {
	code  int
	cause error
}

// Error implements error.
func (e *exitError) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.cause.Error()
}

// Unwrap returns the cause.
func (e *exitError) Unwrap() error { return e.cause }

// cli is the command line.
type cli struct {
	LogLevel  string `help:"How much to log: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
	LogFormat string `help:"How to log: text or json." enum:"text,json" default:"text"`

	ShowVersion versionFlag `name:"version" help:"Print the version."`

	Run     runCmd     `cmd:"" help:"Run the gateway in the foreground."`
	Check   checkCmd   `cmd:"" help:"Validate a config and name every fault."`
	Read    readCmd    `cmd:"" help:"Read tags, or addresses that are in no config yet, with quality, time and raw registers."`
	Browse  browseCmd  `cmd:"" help:"List what an OPC UA server has, or which registers of a Modbus device answer."`
	Demo    demoCmd    `cmd:"" help:"Run everything embedded: simulated PLCs, the gateway, a broker, a receiver."`
	Events  eventsCmd  `cmd:"" help:"What is stored: look at it, export it, send it again; dead letters."`
	Uplink  uplinkCmd  `cmd:"" help:"The central systems: what was exchanged with them; forget one that is not in the config any more."`
	Mode    modeCmd    `cmd:"" help:"What machines are used for: list it, or set it for one."`
	Trust   trustCmd   `cmd:"" help:"Certificates of OPC UA servers: list them, trust one, take trust back; the gateway's own."`
	Ledger  ledgerCmd  `cmd:"" help:"Material: what was consumed, what must be left, and whether the books are right."`
	Backup  backupCmd  `cmd:"" help:"Copy the store to a file, also while the gateway runs."`
	Restore restoreCmd `cmd:"" help:"Make a store out of a backup, where there is none."`
	Record  recordCmd  `cmd:"" help:"Keep what machines do, to replay it later."`
	Replay  replayCmd  `cmd:"" help:"Run the rules of a config over recordings: the events, or how they differ."`
	Buffer  bufferCmd  `cmd:"" help:"Check and repair the files of the store."`
	Audit   auditCmd   `cmd:"" help:"Who changed what: the audit log."`
	Schema  schemaCmd  `cmd:"" help:"Print the JSON Schema of the config or of the events."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// console is what a command talks to: data on Out, talk on Err.
type console struct {
	Out, Err io.Writer
	Log      *zap.Logger
}

func main() {
	privateFiles()
	os.Exit(untilSignal())
}

// untilSignal runs the command line; Ctrl-C and SIGTERM end it in order, a
// second one at once.
func untilSignal() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// run is main without the process: it parses args, runs the command and returns
// the exit code.
func run(ctx context.Context, args []string, out, talk io.Writer) int {
	var c cli
	code := -1
	parser, err := kong.New(&c,
		kong.Name("sluice"),
		kong.Description("The edge gateway between shop-floor machines and the MES."),
		kong.UsageOnError(),
		kong.Writers(out, talk),
		kong.Exit(func(n int) { code = n }),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		fmt.Fprintln(talk, "sluice:", err)
		return exitFailed
	}
	if len(args) > 0 && args[0] == "help" {
		args = append(args[1:len(args):len(args)], "--help")
	}
	command, err := parser.Parse(args)
	if code >= 0 { // --help has printed and asked to leave
		return code
	}
	if err != nil {
		fmt.Fprintln(talk, "sluice:", wrongUsage(parser.Model.Node, args, err))
		return exitUsage
	}
	log := newLogger(c.LogLevel, c.LogFormat, talk)
	defer func() { _ = log.Sync() }() // a terminal answers EINVAL, which says nothing
	// Libraries that write to the standard logger say nothing that a user needs.
	if restore, err := zap.RedirectStdLogAt(log.Named("library"), zap.DebugLevel); err == nil {
		defer restore()
	}
	err = remedied(command.Command(), command.Run(&console{Out: out, Err: talk, Log: log}))
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.cause != nil {
			fmt.Fprintln(talk, "sluice:", exit.cause)
		}
		return exit.code
	default:
		fmt.Fprintln(talk, "sluice:", err)
		return exitFailed
	}
}

// newLogger logs to w, one line an entry. There is no sampling: it would drop
// different devices' first failures that share a message.
func newLogger(level, format string, w io.Writer) *zap.Logger {
	var l zapcore.Level
	if err := l.Set(level); err != nil {
		l = zapcore.InfoLevel
	}
	ec := zap.NewProductionEncoderConfig()
	ec.EncodeTime = zapcore.RFC3339TimeEncoder
	ec.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(ec)
	if format == "text" {
		ec.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(ec)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), l))
}
