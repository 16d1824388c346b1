package main

// demoConfig is the plant of the demo, in the form that an installer writes.
// The %s are the addresses of the simulated PLCs, the broker, and the buffer's
// folder.
const demoConfig = `# The plant of "sluice demo".
site: {enterprise: acme, site: lisbon, area: packing, timezone: Europe/Lisbon, gateway: demo}

buffer: {path: %[1]s, quota: 512 MiB, keep: 1h}
http: {listen: "%[2]s"}

devices:
  press-plc:
    driver: modbus
    endpoint: %[3]s
    interval: 100ms
    word_order: CDAB
    tags:
      made:   {address: "holding:0", type: uint32}
      scrap:  {address: "holding:2", type: uint32}
      state:  holding:4
      code:   holding:5
      oil:    {address: "holding:6", type: int16, scale: 0.1, unit: Cel}
      order:  {address: "holding:10", type: string, length: 8}
  filler-plc:
    driver: modbus
    endpoint: %[4]s
    interval: 100ms
    tags:
      made:  holding:0
      scrap: holding:2
      run:   coil:0
      code:  holding:5

machines:
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
  FILLER-01:
    device: filler-plc
    counter: {total: made, scrap: {LEAK: scrap}, max_rate: 200/s, every: 1s}
    startstop:
      running: run
      reason: code
      reasons: {"21": {type: No bottles}, "22": {type: Maintenance}}
      min_stop: 500ms

uplinks:
  mqtt: {driver: mqtt, url: tcp://%[5]s}
`
