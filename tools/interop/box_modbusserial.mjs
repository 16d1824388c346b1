// A gateway box with units behind it on modbus-serial, Modbus TCP: none of this
// project's own Modbus code.
//   node box_modbusserial.mjs PORT UNIT…
// Holding and input register n of unit u hold 1000·u + n; coil n is on if n is odd.
// A unit that is not named does not answer in time: the box says exception 11.
import ModbusRTU from 'modbus-serial'

const port = Number(process.argv[2])
const units = new Set(process.argv.slice(3).map(Number))
const lost = { modbusErrorCode: 11 } // gateway target device failed to respond

const word = (address, unit) => {
  if (!units.has(unit)) throw lost
  return 1000 * unit + address
}

const server = new ModbusRTU.ServerTCP(
  { getHoldingRegister: word, getInputRegister: word, getCoil: (address) => address % 2 === 1 },
  { host: '127.0.0.1', port, unitID: 255 },
)
server.on('initialized', () => console.log(JSON.stringify({ Addr: `127.0.0.1:${port}` })))
server.on('socketError', () => {})
