//go:build !chaos

package main

import (
	"github.com/sluice-edge/sluice/derive"
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/plant"
)

// The seams return what they are given. A build with the tag chaos puts kills
// and the negative control of the end-to-end tests there.

func (g *gateway) seamLog(log derive.Log) derive.Log { return log }

func (g *gateway) seamWriter(w derive.Writer) derive.Writer { return w }

func (g *gateway) seamSink(s drivers.Sink, _ []plant.Record) drivers.Sink { return s }
