// A strict receiver of events by HTTP in another language. It shares no code
// with this project and reads docs/events.md by the letter.
//   node receiver.mjs PORT FOLDER TOKEN
// POST /one takes one event a request, POST /batch a list, each into a book of
// its own. What was accepted is in FOLDER before it is answered, so the process
// may be killed at any time. One line of JSON on stdin is a command, each is
// answered by one line with what arrived and what was wrong with it:
//   {"Do": "faults"|"calm"|"busy"|"forget"|"made"}
// After "faults" it loses answers, before and after it has taken an event, and
// answers 500, 503, 429 and, to a batch, for each event; "busy" answers the next
// request of each path with 429 and Retry-After: 2. Who comes again sooner is
// wrong, unless "forget" said that the sender has died.
import { createInterface } from 'node:readline';
import { createServer } from 'node:http';
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const [port, folder, token] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });

// Book is what one path has received, machine by machine.
class Book {
  constructor(name) {
    this.file = join(folder, `${name}.jsonl`);
    this.wrong = [];
    this.seen = new Map(); // source and id → the event as it came
    this.last = new Map(); // source → the newest id's sequence
    this.machines = {};
    this.duplicates = 0;
    if (existsSync(this.file)) {
      // The last line may be half of one if the process was killed at it.
      for (const line of readFileSync(this.file, 'utf8').split('\n').slice(0, -1)) this.count(JSON.parse(line), line);
    }
  }

  violate(text) {
    if (this.wrong.length < 20) this.wrong.push(text);
  }

  // accept takes an event, once; a repeat has to be the same to the last byte.
  accept(e) {
    const text = JSON.stringify(e);
    const known = this.seen.get(`${e.source} ${e.id}`);
    if (known !== undefined) {
      this.duplicates++;
      if (known !== text) this.violate(`event ${e.id} came again and was another`);
      return;
    }
    appendFileSync(this.file, `${text}\n`);
    this.count(e, text);
  }

  count(e, text) {
    this.seen.set(`${e.source} ${e.id}`, text);
    const last = this.last.get(e.source) ?? 0;
    if (Number(e.previous ?? 0) !== last) this.violate(`event ${e.id} names ${e.previous} as previous, but ${last} was the last to arrive`);
    if (!(Number(e.sequence) > last)) this.violate(`event ${e.id} has sequence ${e.sequence} after ${last}`);
    this.last.set(e.source, Number(e.sequence));
    const machine = (this.machines[e.subject] ??= { Pieces: 0, Scrap: 0, Records: { serial: [], item_attach: [], dosing: [] } });
    const d = e.data;
    switch (e.type) {
      case 'dev.sluice.counter.v1': {
        const scrap = (d.scrap ?? []).reduce((sum, c) => sum + c.delta, 0);
        machine.Pieces += d.good_delta + scrap;
        machine.Scrap += scrap;
        const total = d.good + (d.scrap ?? []).reduce((sum, c) => sum + c.quantity, 0);
        if (total !== machine.Pieces) this.violate(`event ${e.id}: the deltas add up to ${machine.Pieces}, the cumulative counts to ${total}`);
        break;
      }
      case 'dev.sluice.serial.v1':
        machine.Records.serial.push(`${d.serial} ${d.sku}`);
        break;
      case 'dev.sluice.item_attach.v1':
        machine.Records.item_attach.push(`${d.serial} ${d.item.serial}`);
        break;
      case 'dev.sluice.dosing.v1':
        machine.Records.dosing.push(`${d.dose} ${d.component} ${d.quantity}`);
        break;
      default:
    }
  }
}

const paths = { '/one': new Book('one'), '/batch': new Book('batch') };
const media = { '/one': 'application/cloudevents+json', '/batch': 'application/cloudevents-batch+json' };

// Keys bind a body; until says when a request that was sent away may be back.
const keys = new Map();
let faults = false;
let busy = new Set();
const given = {};

// wanted is the Idempotency-Key that docs/events.md promises for these events.
function wanted(events) {
  const short = (e) => e.id.slice(e.id.lastIndexOf('/') + 1);
  const first = events[0].id;
  return events.length === 1 ? first : `${first}..${short(events.at(-1))}/${events.length}`;
}

// check returns the events of a request, and names everything that is not as
// promised.
function check(request, path, body) {
  const book = paths[path];
  const h = request.headers;
  if (request.method !== 'POST') book.violate(`the method ${request.method}`);
  if (h.authorization !== `Bearer ${token}`) book.violate('no token, or another');
  const [type, ...parameters] = (h['content-type'] ?? '').split(';').map((p) => p.trim());
  if (type !== media[path] || parameters.some((p) => p !== 'charset=utf-8')) book.violate(`the content type ${h['content-type']}`);
  const text = new TextDecoder('utf-8', { fatal: true }).decode(body);
  const parsed = JSON.parse(text);
  const events = path === '/one' ? [parsed] : parsed;
  for (const e of events) {
    if (e.specversion !== '1.0' || !e.id || !e.source || !e.subject || !e.type || Number.isNaN(Date.parse(e.time)) || e.datacontenttype !== 'application/json') {
      book.violate(`event ${e.id} is no CloudEvent with what was promised`);
    }
  }
  if (new Set(events.map((e) => e.source)).size !== 1) book.violate('a request with events of several machines');
  const key = h['idempotency-key'];
  if (key !== wanted(events)) book.violate(`the Idempotency-Key ${key}, want ${wanted(events)}`);
  const hash = createHash('sha256').update(body).digest('hex');
  const before = keys.get(path + key);
  if (before && before.hash !== hash) book.violate(`the key ${key} came again with another body`);
  if (before && performance.now() < before.until) book.violate(`${key} came again ${Math.round(before.until - performance.now())} ms before Retry-After was over`);
  keys.set(path + key, { hash, until: 0 });
  return { events, key: path + key };
}

// Node ends its own timers up to a millisecond early.
const TOLERANCE = 10;

function sendAway(answer, key, status, seconds) {
  keys.get(key).until = performance.now() + seconds * 1000 - TOLERANCE;
  answer.writeHead(status, { 'Retry-After': String(seconds), 'Content-Type': 'application/json' });
  answer.end(JSON.stringify({ error: 'later, please' }));
}

const mishaps = {
  'lost before': (request) => request.socket.destroy(),
  'lost after': (request, answer, book, events) => {
    for (const e of events) book.accept(e);
    request.socket.destroy();
  },
  'cut after': (request, answer, book, events) => {
    for (const e of events) book.accept(e);
    request.socket.end('HTTP/1.1 2');
  },
  500: (request, answer) => { answer.writeHead(500); answer.end('no database'); },
  503: (request, answer) => { answer.writeHead(503); answer.end(); },
  '503 later': (request, answer, book, events, key) => sendAway(answer, key, 503, 1),
  '429 later': (request, answer, book, events, key) => sendAway(answer, key, 429, 1),
  // In a batch one event is not taken, and what is behind it comes again.
  'half a batch': (request, answer, book, events) => {
    const taken = events.slice(0, events.length >> 1);
    for (const e of taken) book.accept(e);
    answer.writeHead(207, { 'Content-Type': 'application/json' });
    answer.end(JSON.stringify({ results: events.map((e, i) => ({ id: e.id, status: i < taken.length ? 201 : 503 })) }));
  },
};
const turns = { '/one': 0, '/batch': 0 };

// mishap returns what goes wrong with this request: one in five, in turn.
function mishap(path) {
  if (busy.delete(path)) return 'busy';
  if (!faults || ++turns[path] % 5 !== 0) return '';
  const names = Object.keys(mishaps).filter((name) => path === '/batch' || name !== 'half a batch');
  return names[(turns[path] / 5) % names.length];
}

const server = createServer((request, answer) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const book = paths[request.url];
    if (!book) {
      for (const b of Object.values(paths)) b.violate(`a request to ${request.url}`);
      answer.writeHead(404);
      answer.end();
      return;
    }
    let checked;
    try {
      checked = check(request, request.url, Buffer.concat(parts));
    } catch (error) {
      book.violate(`a body that cannot be read: ${error}`);
      answer.writeHead(400);
      answer.end();
      return;
    }
    const { events, key } = checked;
    const what = mishap(request.url);
    if (what) given[what] = (given[what] ?? 0) + 1;
    if (what === 'busy') {
      sendAway(answer, key, 429, 2);
    } else if (what) {
      mishaps[what](request, answer, book, events, key);
    } else {
      for (const e of events) book.accept(e);
      answer.writeHead(204);
      answer.end();
    }
  });
});

const commands = {
  faults: () => { faults = true; },
  calm: () => { faults = false; busy = new Set(); },
  busy: () => { busy = new Set(Object.keys(paths)); },
  forget: () => { for (const k of keys.values()) k.until = 0; },
  made: () => {},
};

server.listen(Number(port), '127.0.0.1', async () => {
  console.log(JSON.stringify({ Addr: `127.0.0.1:${port}` }));
  for await (const line of createInterface({ input: process.stdin })) {
    commands[JSON.parse(line).Do]();
    const books = Object.fromEntries(Object.entries(paths).map(([path, b]) => [path, { Machines: b.machines, Wrong: b.wrong, Duplicates: b.duplicates, Events: b.seen.size }]));
    console.log(JSON.stringify({ Books: books, Given: given }));
  }
  server.close();
  server.closeAllConnections();
});
