#!/usr/bin/python3
"""A PLC with a line and a dosing scale on a pymodbus server (Debian's package).

It is nobody's of this project's own Modbus code. One line of JSON on stdin is
a command, each is answered by one line of JSON with what was really made:
  {"Do": "start"|"stop"|"dose"|"restart"|"made"}
"dose" queues one dose; "restart" sets the counters back to 0 as a power cycle
does. Registers (holding, low word first): 0-1 pieces, 2-3 scrap, 40-41 number
of the dose, 42-43 grams, 44-51 component; coils: 0 running, 10 trigger (PLC),
11 acknowledge (gateway).
"""
import asyncio
import json
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import async_io

PACE = 120.0  # pieces a second
SCRAP_EVERY = 13
COMPONENTS = ("SUGAR", "SALT", "COCOA")


class Plc:
    def __init__(self):
        self.store = ModbusSlaveContext(
            co=ModbusSequentialDataBlock(0, [0] * 64), hr=ModbusSequentialDataBlock(0, [0] * 256), zero_mode=True
        )
        self.running = False
        self.total = self.scrap = 0
        self.made = {"Pieces": 0, "Scrap": 0, "Changes": 0, "Doses": 0, "Grams": 0}
        self.queue = []
        self.number = 0
        self.phase = "idle"

    def coil(self, address):
        return self.store.getValues(1, address, 1)[0]

    def set_coil(self, address, value):
        self.store.setValues(1, address, [bool(value)])

    def set_holding(self, address, values):
        self.store.setValues(3, address, values)

    def show(self):
        self.set_holding(0, [self.total & 0xFFFF, self.total >> 16, self.scrap & 0xFFFF, self.scrap >> 16])
        self.set_coil(0, self.running)

    def run(self, running):
        if running != self.running:
            self.made["Changes"] += 1
        self.running = running
        self.show()

    def dose(self):
        self.number += 1
        grams = 1000 + (self.number * 37) % 900
        self.queue.append((self.number, grams, COMPONENTS[self.number % len(COMPONENTS)]))
        self.made["Doses"] += 1
        self.made["Grams"] += grams

    def handshake(self):
        """The level protocol: record, trigger up, ack up, trigger down, ack down."""
        ack = self.coil(11)
        if self.phase == "idle" and not ack and self.queue:
            number, grams, component = self.queue[0]
            text = component.encode().ljust(16, b"\0")
            words = [text[i] << 8 | text[i + 1] for i in range(0, 16, 2)]
            self.set_holding(40, [number & 0xFFFF, number >> 16, grams & 0xFFFF, grams >> 16] + words)
            self.set_coil(10, True)
            self.phase = "offered"
        elif self.phase == "offered" and ack:
            self.queue.pop(0)
            self.set_coil(10, False)
            self.phase = "idle"

    async def work(self):
        loop, due = asyncio.get_running_loop(), 0.0
        last = loop.time()
        while True:
            await asyncio.sleep(0.01)
            now = loop.time()
            if self.running:
                due += PACE * (now - last)
                for _ in range(int(due)):
                    self.made["Pieces"] += 1
                    self.total += 1
                    if self.made["Pieces"] % SCRAP_EVERY == 0:
                        self.made["Scrap"] += 1
                        self.scrap += 1
                due -= int(due)
                self.show()
            last = now
            self.handshake()

    def obey(self, do):
        if do == "start":
            self.run(True)
        elif do == "stop":
            self.run(False)
        elif do == "dose":
            self.dose()
        elif do == "restart":
            self.total = self.scrap = 0
            self.show()
        return dict(self.made, Waiting=len(self.queue))


async def main():
    plc = Plc()
    context = ModbusServerContext(slaves=plc.store, single=True)
    server = async_io.ModbusTcpServer(context, address=("127.0.0.1", int(sys.argv[1])))
    serving = asyncio.create_task(server.serve_forever())
    await server.serving
    working = asyncio.create_task(plc.work())
    print(json.dumps({"Addrs": ["127.0.0.1:%d" % int(sys.argv[1])]}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({"Made": [plc.obey(json.loads(line)["Do"])]}), flush=True)
    working.cancel()
    serving.cancel()


asyncio.run(main())
