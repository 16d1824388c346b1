// A PLC with a packaging line on a node-opcua server. It is nobody's of this
// project's own OPC UA code. One line of JSON on stdin is a command, each is
// answered by one line of JSON with what was really made:
//   {"Do": "start"|"stop"|"serial"|"restart"|"made"}
// "serial" hands over one serial number by the level handshake; "restart" sets
// the counters back to 0 as a power cycle does. Variables of namespace 1:
// Line.Total Line.Scrap (UInt32) Line.Running (Boolean) Line.Code (UInt16)
// Serial.Number Serial.Sku (String) Serial.Trigger Serial.Ack (Boolean).
import { createInterface } from 'node:readline';
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { OPCUAServer } from 'node-opcua-server';
import { DataType, Variant } from 'node-opcua-variant';
import { OPCUACertificateManager } from 'node-opcua-certificate-manager';

const PACE = 80; // pieces a second
const SCRAP_EVERY = 19;
const [port, folder] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });

const certificates = new OPCUACertificateManager({ rootFolder: join(folder, 'pki'), automaticallyAcceptUnknownCertificate: true });
await certificates.initialize();
const server = new OPCUAServer({
  port: Number(port), hostname: '127.0.0.1', resourcePath: '/', serverCertificateManager: certificates,
  allowAnonymous: true,
  userManager: { isValidUser: (user, password) => user === 'sluice' && password === 'interop' },
});
await server.initialize();

const s = { total: 0, scrap: 0, running: false, code: 0, serial: '', sku: '', trigger: false, ack: false };
const made = { Pieces: 0, Scrap: 0, Changes: 0, Serials: 0 };
const queue = [];
const namespace = server.engine.addressSpace.getOwnNamespace();
const variables = [];
function variable(id, dataType, key, writable = false) {
  const v = namespace.addVariable({
    organizedBy: server.engine.addressSpace.rootFolder.objects,
    browseName: id, nodeId: `s=${id}`, dataType, minimumSamplingInterval: 20,
    accessLevel: writable ? 'CurrentRead | CurrentWrite' : 'CurrentRead',
    userAccessLevel: writable ? 'CurrentRead | CurrentWrite' : 'CurrentRead',
  });
  if (writable) {
    v.setValueFromSource({ dataType, value: s[key] });
    v.on('value_changed', (d) => { s[key] = d.value.value; });
  } else {
    variables.push(() => {
      if (v.readValue().value.value !== s[key]) v.setValueFromSource(new Variant({ dataType, value: s[key] }));
    });
    v.setValueFromSource(new Variant({ dataType, value: s[key] }));
  }
}
variable('Line.Total', DataType.UInt32, 'total');
variable('Line.Scrap', DataType.UInt32, 'scrap');
variable('Line.Running', DataType.Boolean, 'running');
variable('Line.Code', DataType.UInt16, 'code');
variable('Serial.Number', DataType.String, 'serial');
variable('Serial.Sku', DataType.String, 'sku');
variable('Serial.Trigger', DataType.Boolean, 'trigger');
variable('Serial.Ack', DataType.Boolean, 'ack', true);

let due = 0;
let last = performance.now();
const work = setInterval(() => {
  const now = performance.now();
  if (s.running) {
    due += (PACE * (now - last)) / 1000;
    for (; due >= 1; due--) {
      made.Pieces++;
      s.total++;
      if (made.Pieces % SCRAP_EVERY === 0) { made.Scrap++; s.scrap++; }
    }
  }
  last = now;
  // The level protocol: record, trigger up, ack up, trigger down, ack down.
  if (!s.trigger && !s.ack && queue.length > 0) {
    s.serial = queue[0];
    s.sku = 'BOX-7';
    s.trigger = true;
  } else if (s.trigger && s.ack) {
    queue.shift();
    s.trigger = false;
  }
  for (const show of variables) show();
}, 10);

function run(running, code) {
  if (running !== s.running) made.Changes++;
  s.running = running;
  s.code = code;
}
const commands = {
  start: () => run(true, 0),
  stop: () => run(false, 7),
  serial: () => { made.Serials++; queue.push(`SN-${String(made.Serials).padStart(7, '0')}`); },
  restart: () => { s.total = 0; s.scrap = 0; },
  made: () => {},
};

await server.start();
console.log(JSON.stringify({ Addrs: [`opc.tcp://127.0.0.1:${port}/`], Fingerprint: createHash('sha256').update(server.getCertificate()).digest('hex') }));
for await (const line of createInterface({ input: process.stdin })) {
  commands[JSON.parse(line).Do]();
  console.log(JSON.stringify({ Made: [{ ...made, Waiting: queue.length }] }));
}
clearInterval(work);
await server.shutdown(0);
