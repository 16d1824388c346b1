// A server that nobody here wrote: node-opcua with narrow limits. Started by
// node_test.go as: node server.js <port> <folder for its certificates> [without]
// where "without" leaves Line.Late out.
const path = require("path");
const crypto = require("crypto");
const { OPCUAServer, Variant, DataType, MessageSecurityMode, SecurityPolicy, OPCUACertificateManager, StatusCodes } = require("node-opcua");

(async () => {
  const [port, folder, without] = [Number(process.argv[2]), process.argv[3], process.argv[4] === "without"];
  const pki = new OPCUACertificateManager({ rootFolder: path.join(folder, "pki"), automaticallyAcceptUnknownCertificate: true });
  await pki.initialize();
  const server = new OPCUAServer({
    port, hostname: "127.0.0.1", serverCertificateManager: pki, allowAnonymous: true,
    securityPolicies: [SecurityPolicy.None, SecurityPolicy.Basic256Sha256],
    securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
    userManager: { isValidUser: (user, password) => user === "gateway" && password === "s3cret" },
    serverCapabilities: { operationLimits: { maxNodesPerRead: 100, maxMonitoredItemsPerCall: 50 } },
  });
  await server.initialize();
  const space = server.engine.addressSpace.registerNamespace("urn:line");
  const line = space.addObject({ organizedBy: server.engine.addressSpace.rootFolder.objects, browseName: "Line" });
  const held = {};
  const add = (name, dataType, value, changes) => {
    held[name] = value;
    const node = space.addVariable({ componentOf: line, nodeId: "s=Line." + name, browseName: name, dataType,
      value: { refreshFunc: undefined, get: () => new Variant({ dataType, value: held[name] }),
        set: (v) => { held[name] = v.value; return StatusCodes.Good; } } });
    if (changes) setInterval(() => { held[name] = changes(held[name]); }, 50);
    return node;
  };
  for (let i = 0; i < 120; i++) add("V" + i, DataType.UInt32, 0, (v) => v + 1);
  if (!without) add("Late", DataType.Int16, 7);
  add("Order", DataType.String, "AW1");
  add("Ready", DataType.Boolean, true);
  add("Ack", DataType.UInt16, 0);
  await server.start();
  const chain = server.getCertificateChain();
  const der = Array.isArray(chain) ? chain[0] : chain.subarray(0, chain.readUInt16BE(2) + 4); // by version
  console.log("ready " + crypto.createHash("sha256").update(der).digest("hex"));
})().catch((e) => { console.log("failed " + e.stack); process.exit(1); });
