package main

import (
	"github.com/sluice-edge/sluice/drivers"
	"github.com/sluice-edge/sluice/drivers/line"
	"github.com/sluice-edge/sluice/drivers/modbus"
	"github.com/sluice-edge/sluice/drivers/opcua"
	"github.com/sluice-edge/sluice/internal/kind"
	"github.com/sluice-edge/sluice/uplink"
	"github.com/sluice-edge/sluice/uplink/mqtt"
	"github.com/sluice-edge/sluice/uplink/nextplus"
	"github.com/sluice-edge/sluice/uplink/prodsmart"
	"github.com/sluice-edge/sluice/uplink/rest"
)

// lineKind is what "lines:" holds.
var lineKind = modbus.LineKind

// driverKinds and uplinkKinds are the protocols and dialects of this binary,
// the only place that names them. A new one is one folder and one line here.
var (
	driverKinds = kind.NewRegistry[drivers.Plan](
		line.Kind,
		modbus.Kind,
		opcua.Kind,
	)
	uplinkKinds = kind.NewRegistry[uplink.Plan](
		mqtt.Kind,
		nextplus.Kind,
		prodsmart.Kind,
		rest.Kind,
	)
)
