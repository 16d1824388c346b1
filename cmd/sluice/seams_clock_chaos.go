//go:build chaos && skew

package main

import (
	"bufio"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/sluice-edge/sluice/internal/fault"
)

// followClock moves the wall clock as the rig says on fd 4. The package time has
// SetTestSkew only in the rig's overlay.
func (g *gateway) followClock() {
	if !fault.Enabled("clock.fd4") {
		return
	}
	go func() {
		lines := bufio.NewScanner(os.NewFile(4, "clock"))
		for lines.Scan() {
			seconds, err := strconv.ParseInt(lines.Text(), 10, 64)
			if err != nil {
				g.log.Error("CHAOS: the clock was not told a number", zap.Error(err))
				return
			}
			time.SetTestSkew(seconds)
		}
	}()
}
