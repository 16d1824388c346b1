//go:build chaos

package fault

import (
	"fmt"
	"os"
	"sync"
)

// Env is the variable with the plan, as Parse reads it.
const Env = "SLUICE_FAIL"

// fromEnv is the plan of this process. A plan that cannot be read ends it: a
// fault that never happens would look like a fault that was survived.
var fromEnv = sync.OnceValue(func() *Plan {
	p, err := Parse(os.Getenv(Env))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Env, err)
		os.Exit(2)
	}
	return p
})

// Hit passes a failpoint whose caller can fail: it returns the error that the
// plan has for this pass, nil for none, or does not return. It may be called
// from any goroutine.
func Hit(name string) error { return fromEnv().pass(name) }

// Pass passes a failpoint whose caller cannot fail; an error of the plan has no
// effect there.
func Pass(name string) { _ = fromEnv().pass(name) }

// Enabled reports whether the plan has switched a protection off, by name=on.
func Enabled(name string) bool { return fromEnv().switches[name] }
