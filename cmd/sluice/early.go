//go:build !chaos

package main

import "github.com/sluice-edge/sluice/derive"

// early returns log as it is. A build with the tag chaos has another one, for
// the negative control of the end-to-end test.
func (g *gateway) early(log derive.Log) derive.Log { return log }
