// A PLC with an assembly line on a node-opcua server, which is none of this
// project's own OPC UA code.
//   node plc_nodeopcua.mjs PORT FOLDER [cold]
// FOLDER holds its retentive memory: the process may be killed at any time and
// goes on where it was; with "cold" it has forgotten all that a PLC without such
// memory forgets. One line of JSON on stdin is a command, each is answered by
// one line with what was really made, record by record:
//   {"Do": "start"|"stop"|"offer"|"made"}
// "offer" hands over a serial number and an attach (level) and a dose (sequence).
// Variables of namespace 1: Line.Total Line.Scrap (UInt32) Line.Running (Boolean);
// Serial.* Attach.* with Trigger and Ack (Boolean); Dose.Number Dose.Echo (UInt32).
import { createInterface } from 'node:readline';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OPCUAServer } from 'node-opcua-server';
import { DataType, Variant } from 'node-opcua-variant';
import { OPCUACertificateManager } from 'node-opcua-certificate-manager';

const PACE = 80; // pieces a second
const SCRAP_EVERY = 19;
const [port, folder, how] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });

// made is what happened in the world; s is what the PLC keeps over a power cut.
const file = join(folder, 'memory.json');
const blank = () => ({
  total: 0, scrap: 0, running: false,
  serial: '', sku: '', serialTrigger: false, serials: [],
  parent: '', item: '', attachTrigger: false, attaches: [],
  dose: 0, component: '', grams: 0, taken: true, doses: [],
});
let made = { Pieces: 0, Scrap: 0, Records: { serial: [], item_attach: [], dosing: [] } };
let s = blank();
if (existsSync(file)) {
  const memory = JSON.parse(readFileSync(file, 'utf8'));
  made = memory.made;
  if (how !== 'cold') s = memory.s;
}
// What the gateway writes need not be retentive.
const answers = { serialAck: false, attachAck: false, doseEcho: 0 };

// keep comes before anything is shown: what was seen outside is never forgotten.
let kept = '';
function keep() {
  const text = JSON.stringify({ made, s });
  if (text === kept) return;
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
  kept = text;
}

const certificates = new OPCUACertificateManager({ rootFolder: join(folder, 'pki'), automaticallyAcceptUnknownCertificate: true });
await certificates.initialize();
const server = new OPCUAServer({
  port: Number(port), hostname: '127.0.0.1', resourcePath: '/', serverCertificateManager: certificates,
  allowAnonymous: true,
  userManager: { isValidUser: (user, password) => user === 'sluice' && password === 'interop' },
});
await server.initialize();

const namespace = server.engine.addressSpace.getOwnNamespace();
const shows = [];
function variable(id, dataType, get, set) {
  const access = set ? 'CurrentRead | CurrentWrite' : 'CurrentRead';
  const v = namespace.addVariable({
    organizedBy: server.engine.addressSpace.rootFolder.objects,
    browseName: id, nodeId: `s=${id}`, dataType, minimumSamplingInterval: 20, accessLevel: access, userAccessLevel: access,
  });
  v.setValueFromSource(new Variant({ dataType, value: get() }));
  if (set) {
    v.on('value_changed', (d) => set(d.value.value));
    return;
  }
  let shown = get();
  shows.push(() => {
    if (shown === get()) return;
    shown = get();
    v.setValueFromSource(new Variant({ dataType, value: shown }));
  });
}
variable('Line.Total', DataType.UInt32, () => s.total);
variable('Line.Scrap', DataType.UInt32, () => s.scrap);
variable('Line.Running', DataType.Boolean, () => s.running);
variable('Serial.Number', DataType.String, () => s.serial);
variable('Serial.Sku', DataType.String, () => s.sku);
variable('Serial.Trigger', DataType.Boolean, () => s.serialTrigger);
variable('Serial.Ack', DataType.Boolean, () => answers.serialAck, (v) => { answers.serialAck = v; });
variable('Attach.Parent', DataType.String, () => s.parent);
variable('Attach.Item', DataType.String, () => s.item);
variable('Attach.Trigger', DataType.Boolean, () => s.attachTrigger);
variable('Attach.Ack', DataType.Boolean, () => answers.attachAck, (v) => { answers.attachAck = v; });
variable('Dose.Component', DataType.String, () => s.component);
variable('Dose.Grams', DataType.UInt32, () => s.grams);
variable('Dose.Number', DataType.UInt32, () => s.dose);
variable('Dose.Echo', DataType.UInt32, () => answers.doseEcho, (v) => { answers.doseEcho = v; });

// level: record, trigger up, ack up, trigger down, ack down.
function level(queue, trigger, ack, put) {
  if (!s[trigger] && !ack && s[queue].length > 0) {
    put(s[queue][0]);
    s[trigger] = true;
  } else if (s[trigger] && ack) {
    s[queue].shift();
    s[trigger] = false;
  }
}

// sequence: the number goes up with each record, the echo repeats it.
function sequence() {
  if (answers.doseEcho === s.dose && !s.taken) {
    s.doses.shift();
    s.taken = true;
  }
  if (s.taken && (answers.doseEcho === s.dose || s.dose === 0) && s.doses.length > 0) {
    [s.component, s.grams] = s.doses[0];
    s.dose++;
    s.taken = false;
  }
}

let due = 0;
let last = performance.now();
function work() {
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
  level('serials', 'serialTrigger', answers.serialAck, (r) => { [s.serial, s.sku] = r; });
  level('attaches', 'attachTrigger', answers.attachAck, (r) => { [s.parent, s.item] = r; });
  sequence();
  keep();
  for (const show of shows) show();
}

function offer() {
  const n = made.Records.serial.length + 1;
  const [unit, sku, item] = [`SN-${String(n).padStart(7, '0')}`, `BOX-${n % 3}`, `PUMP-${String(n).padStart(7, '0')}`];
  const number = s.dose + s.doses.length + (s.taken ? 1 : 0);
  const [component, grams] = [n % 2 ? 'GLUE' : 'OIL', 20 + ((n * 7) % 50)];
  s.serials.push([unit, sku]);
  s.attaches.push([unit, item]);
  s.doses.push([component, grams]);
  made.Records.serial.push(`${unit} ${sku}`);
  made.Records.item_attach.push(`${unit} ${item}`);
  made.Records.dosing.push(`${number} ${component} ${grams}`);
}
const commands = {
  start: () => { s.running = true; },
  stop: () => { s.running = false; },
  offer,
  made: () => {},
};

keep();
await server.start();
const working = setInterval(work, 10);
console.log(JSON.stringify({ Addr: `127.0.0.1:${port}`, Fingerprint: createHash('sha256').update(server.getCertificate()).digest('hex') }));
for await (const line of createInterface({ input: process.stdin })) {
  commands[JSON.parse(line).Do]();
  work();
  console.log(JSON.stringify({ Book: made, Waiting: s.serials.length + s.attaches.length + s.doses.length, Idle: !answers.serialAck && !answers.attachAck }));
}
clearInterval(working);
await server.shutdown(0);
