package main

// demoConfig is the plant of the demo, in the form that an installer writes. The
// %s are the buffer's folder, the page's address, and those of the simulated
// PLCs, the broker, the REST receiver and the hopper's PLC.
const demoConfig = `# The plant of "sluice demo".
site: {enterprise: acme, site: lisbon, area: packing, timezone: Europe/Lisbon, gateway: demo}

buffer: {path: %[1]s, quota: 512 MiB, keep: 1h}
http: {listen: "%[2]s"}

devices:
  line-plc:
    driver: opcua
    endpoint: opc.tcp://%[3]s
    channel: {policy: None, mode: None}
    tags:
      made:   {node: "nsu=urn:sluice:plantsim:line;s=Line.Made", type: uint16, queue: 1}
      scrap:  {node: "nsu=urn:sluice:plantsim:line;s=Line.Scrap", type: uint16, queue: 1}
      run:    {node: "nsu=urn:sluice:plantsim:line;s=Line.Running", type: bool}
      code:   {node: "nsu=urn:sluice:plantsim:line;s=Line.StopCode", type: uint16}
      order:  {node: "nsu=urn:sluice:plantsim:line;s=Line.Order", type: string}
      serial_offer:    {node: "nsu=urn:sluice:plantsim:line;s=Serial.Offer", type: bool}
      serial_ack:      {node: "nsu=urn:sluice:plantsim:line;s=Serial.Ack", type: bool}
      serial:          {node: "nsu=urn:sluice:plantsim:line;s=Serial.Number", type: string}
      sku:             {node: "nsu=urn:sluice:plantsim:line;s=Serial.SKU", type: string}
      attach_offer:    {node: "nsu=urn:sluice:plantsim:line;s=Attach.Offer", type: bool}
      attach_ack:      {node: "nsu=urn:sluice:plantsim:line;s=Attach.Ack", type: bool}
      attach_parent:   {node: "nsu=urn:sluice:plantsim:line;s=Attach.Parent", type: string}
      attach_sku:      {node: "nsu=urn:sluice:plantsim:line;s=Attach.SKU", type: string}
      attach_serial:   {node: "nsu=urn:sluice:plantsim:line;s=Attach.Serial", type: string}
      attach_quantity: {node: "nsu=urn:sluice:plantsim:line;s=Attach.Quantity", type: int32}
  press-plc:
    driver: modbus
    endpoint: %[4]s
    interval: 100ms
    word_order: CDAB
    tags:
      made:   {address: "holding:0", type: uint32}
      scrap:  {address: "holding:2", type: uint32}
      state:  holding:4
      code:   holding:5
      oil:    {address: "holding:6", type: int16, scale: 0.1, unit: Cel}
      order:  {address: "holding:10", type: string, length: 8}
  scale-plc:
    driver: modbus
    endpoint: %[5]s
    interval: 100ms
    tags:
      offer:     coil:0
      ack:       coil:1
      number:    holding:100
      quantity:  {address: "holding:101", type: int32}
      target:    {address: "holding:103", type: int32}
      component: {address: "holding:107", type: string, length: 8}
      lot:       {address: "holding:115", type: string, length: 8}
      order:     {address: "holding:123", type: string, length: 8}
      unit:      {address: "holding:131", type: string, length: 1}
  hopper-plc:
    driver: modbus
    endpoint: %[8]s
    interval: 100ms
    tags:
      gross: {address: "holding:0", type: int32, scale: 0.001, unit: kg}
      gate:  holding:2

machines:
  PACKER-01:
    device: line-plc
    order: order
    counter: {total: made, scrap: {TORN: scrap}, max_rate: 200/s, every: 1s}
    startstop:
      running: run
      reason: code
      reasons: {"21": {type: No boxes}, "22": {type: Maintenance}}
      min_stop: 500ms
    serial: {trigger: serial_offer, ack: serial_ack, serial: serial, sku: {tag: sku}}
    item_attach:
      trigger: attach_offer
      ack: attach_ack
      serial: attach_parent
      item: {sku: {tag: attach_sku}, serial: attach_serial, quantity: attach_quantity}
  PRESS-01:
    device: press-plc
    order: order
    counter: {total: made, scrap: {BURR: scrap}, max_rate: 100/s, every: 1s}
    startstop:
      running: {tag: state, values: [3]}
      reason: code
      reasons: {"11": {type: Jam}, "12": {type: Tool change}}
      min_stop: 500ms
    parameters: {oil: {tag: oil, deadband: 0.5, min_interval: 2s}}
  MIXER-01:
    device: scale-plc
    dosing: {trigger: offer, ack: ack, number: number, component: {tag: component}, quantity: quantity, unit: {tag: unit}, target: {tag: target}, lot: lot, order: order}
  HOPPER-01:
    device: hopper-plc
    dosing: {method: batch_out, weight: gross, while: gate, component: FLOUR, location: HOPPER-01, min_dose: 200 g, division: 5 g}

uplinks:
  # The broker is stopped for a while: nobody who watches should wait for the next try.
  mqtt: {driver: mqtt, url: "tcp://%[6]s", backoff_max: 3s}
  rest: {driver: rest, url: "http://%[7]s/events", batch: 20, backoff_max: 3s}
`
