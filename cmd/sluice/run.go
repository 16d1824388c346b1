package main

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// runCmd runs the gateway in the foreground, also under systemd.
type runCmd struct {
	configFlag
}

// Run runs the gateway until a signal. A bad config ends with exit code 2 and
// every fault on stderr; a latched buffer with exit code 70, at once.
func (r *runCmd) Run(ctx context.Context, c *console) error {
	_, p, faults := r.load()
	faults = faults.Starting()
	for _, f := range faults {
		fmt.Fprintln(c.Err, f)
	}
	if errs := faults.Errors(); len(errs) > 0 {
		return &exitError{code: exitUsage, cause: errors.New("the config has " + count(len(errs), "fault") + "; nothing was started")}
	}
	c.Log.Info("sluice starts", zap.String("version", version), zap.String("gateway", p.Config.Site.Gateway))
	if err := newGateway(p, c.Log).run(ctx); err != nil {
		return err
	}
	c.Log.Info("sluice has stopped")
	return nil
}
