#!/usr/bin/python3
"""A PLC with a line and a dosing scale on a pymodbus server (Debian's package).

It is none of this project's own Modbus code.
  plc_pymodbus.py PORT FOLDER [cold]
FOLDER holds its retentive memory: the process may be killed at any time and goes
on where it was; with "cold" it has forgotten all that a PLC without such memory
forgets. One line of JSON on stdin is a command, each is answered by one line with
what was really made, record by record:
  {"Do": "start"|"stop"|"offer"|"made"}
"offer" queues one dose. Registers (holding, low word first): 0-1 pieces, 2-3
scrap, 40-41 number of the dose, 42-43 grams, 44-51 component; coils: 0 running,
10 trigger (PLC), 11 acknowledge (gateway).
"""
import asyncio
import json
import os
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import async_io

PACE = 120.0  # pieces a second
SCRAP_EVERY = 13
COMPONENTS = ("SUGAR", "SALT", "COCOA")


class Plc:
    def __init__(self, folder, cold):
        self.store = ModbusSlaveContext(
            co=ModbusSequentialDataBlock(0, [0] * 64), hr=ModbusSequentialDataBlock(0, [0] * 256), zero_mode=True
        )
        # made is what happened in the world, kept what survives a power cut.
        self.made = {"Pieces": 0, "Scrap": 0, "Records": {"dosing": []}}
        self.kept = {"total": 0, "scrap": 0, "running": False, "queue": [], "number": 0, "offer": None}
        self.file = os.path.join(folder, "memory.json")
        self.written = None
        if os.path.exists(self.file):
            with open(self.file) as f:
                memory = json.load(f)
            self.made = memory["made"]
            if not cold:
                self.kept = memory["kept"]
        self.show()

    def keep(self):
        """Comes before anything is shown: what was seen is never forgotten."""
        text = json.dumps({"made": self.made, "kept": self.kept})
        if text != self.written:
            with open(self.file + ".new", "w") as f:
                f.write(text)
            os.replace(self.file + ".new", self.file)
            self.written = text

    def ack(self):
        return self.store.getValues(1, 11, 1)[0]

    def show(self):
        self.keep()
        k = self.kept
        self.store.setValues(3, 0, [k["total"] & 0xFFFF, k["total"] >> 16, k["scrap"] & 0xFFFF, k["scrap"] >> 16])
        self.store.setValues(1, 0, [k["running"]])
        if k["offer"]:
            number, grams, component = k["offer"]
            text = component.encode().ljust(16, b"\0")
            words = [text[i] << 8 | text[i + 1] for i in range(0, 16, 2)]
            self.store.setValues(3, 40, [number & 0xFFFF, number >> 16, grams & 0xFFFF, grams >> 16] + words)
        self.store.setValues(1, 10, [k["offer"] is not None])

    def offer(self):
        n = len(self.made["Records"]["dosing"]) + 1
        component, grams = COMPONENTS[n % len(COMPONENTS)], 1000 + (n * 37) % 900
        self.kept["number"] += 1
        self.kept["queue"].append((self.kept["number"], grams, component))
        self.made["Records"]["dosing"].append("%d %s %d" % (self.kept["number"], component, grams))

    def handshake(self):
        """The level protocol: record, trigger up, ack up, trigger down, ack down."""
        k = self.kept
        if k["offer"] is None and not self.ack() and k["queue"]:
            k["offer"] = k["queue"][0]
        elif k["offer"] is not None and self.ack():
            k["queue"].pop(0)
            k["offer"] = None

    def make(self, pieces):
        for _ in range(pieces):
            self.made["Pieces"] += 1
            self.kept["total"] += 1
            if self.made["Pieces"] % SCRAP_EVERY == 0:
                self.made["Scrap"] += 1
                self.kept["scrap"] += 1

    async def work(self):
        loop, due = asyncio.get_running_loop(), 0.0
        last = loop.time()
        while True:
            await asyncio.sleep(0.01)
            now = loop.time()
            if self.kept["running"]:
                due += PACE * (now - last)
                self.make(int(due))
                due -= int(due)
            last = now
            self.handshake()
            self.show()

    def obey(self, do):
        if do in ("start", "stop"):
            self.kept["running"] = do == "start"
        elif do == "offer":
            self.offer()
        self.show()
        return {"Book": self.made, "Waiting": len(self.kept["queue"]), "Idle": not self.ack()}


async def main():
    port, folder = int(sys.argv[1]), sys.argv[2]
    os.makedirs(folder, exist_ok=True)
    plc = Plc(folder, sys.argv[3:] == ["cold"])
    context = ModbusServerContext(slaves=plc.store, single=True)
    server = async_io.ModbusTcpServer(context, address=("127.0.0.1", port), allow_reuse_address=True)
    serving = asyncio.create_task(server.serve_forever())
    await server.serving
    working = asyncio.create_task(plc.work())
    print(json.dumps({"Addr": "127.0.0.1:%d" % port}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(plc.obey(json.loads(line)["Do"])), flush=True)
    working.cancel()
    serving.cancel()


asyncio.run(main())
