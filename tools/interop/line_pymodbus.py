#!/usr/bin/python3
"""Units of a serial line on a pymodbus server (Debian's package), RTU over TCP.

It is none of this project's own Modbus code.
  line_pymodbus.py PORT UNIT…
Holding and input register n of unit u hold 1000·u + n; coil n is on if n is odd.
Units that are not named are silent, as on a wire. It says where it listens by one
line of JSON.
"""
import asyncio
import json
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import async_io
from pymodbus.transaction import ModbusRtuFramer


def unit(u):
    words = [1000 * u + n for n in range(256)]
    return ModbusSlaveContext(
        co=ModbusSequentialDataBlock(0, [n % 2 == 1 for n in range(256)]),
        hr=ModbusSequentialDataBlock(0, words),
        ir=ModbusSequentialDataBlock(0, words),
        zero_mode=True,
    )


async def main():
    port = int(sys.argv[1])
    context = ModbusServerContext(slaves={int(u): unit(int(u)) for u in sys.argv[2:]}, single=False)
    server = async_io.ModbusTcpServer(
        context, framer=ModbusRtuFramer, address=("127.0.0.1", port), allow_reuse_address=True, ignore_missing_slaves=True
    )
    serving = asyncio.create_task(server.serve_forever())
    await server.serving
    print(json.dumps({"Addr": "127.0.0.1:%d" % port}), flush=True)
    await serving


asyncio.run(main())
