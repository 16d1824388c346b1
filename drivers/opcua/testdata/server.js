// A server that nobody here wrote: node-opcua with narrow limits. Started by
// node_test.go as: node server.js <port> <folder for its certificates> [words]
//   without  leaves Line.Late out
//   moved    has another namespace in front of urn:line
//   single   has one session for all
//   skewed   has a clock that is an hour ahead
//   scales   has the weights of OPC 40200, structures that gopcua does not know
//   old      does not describe structures as servers since OPC UA 1.04 do
//   unnamed  keeps to its limits and does not name them
const path = require("path");
const crypto = require("crypto");
const { OPCUAServer, Variant, DataType, VariantArrayType, DataValue, MessageSecurityMode, SecurityPolicy, OPCUACertificateManager, StatusCodes, AttributeIds, nodesets } = require("node-opcua");

(async () => {
  const [port, folder, words] = [Number(process.argv[2]), process.argv[3], process.argv.slice(4)];
  const is = (word) => words.includes(word);
  const pki = new OPCUACertificateManager({ rootFolder: path.join(folder, "pki"), automaticallyAcceptUnknownCertificate: true });
  await pki.initialize();
  const server = new OPCUAServer({
    port, hostname: "127.0.0.1", nodeset_filename: is("scales") ? [nodesets.standard, nodesets.di, nodesets.ia, nodesets.machinery, nodesets.packML, nodesets.scales] : [nodesets.standard], serverCertificateManager: pki, allowAnonymous: true, maxConnectionsPerEndpoint: 2000,
    securityPolicies: [SecurityPolicy.None, SecurityPolicy.Basic256Sha256],
    securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
    userManager: { isValidUser: (user, password) => user === "gateway" && password === "s3cret" },
    serverCapabilities: { maxSessions: is("single") ? 1 : 100, operationLimits: { maxNodesPerRead: 100, maxMonitoredItemsPerCall: 50 } },
  });
  await server.initialize();
  if (is("unnamed")) {
    for (const node of ["i=11705", "i=11714"]) {
      server.engine.addressSpace.findNode(node).bindVariable({ get: () => new Variant({ dataType: DataType.UInt32, value: 0 }) }, true);
    }
  }
  if (is("moved")) server.engine.addressSpace.registerNamespace("urn:in-front");
  const space = server.engine.addressSpace.registerNamespace("urn:line");
  const line = space.addObject({ organizedBy: server.engine.addressSpace.rootFolder.objects, browseName: "Line" });
  const held = {};
  const ahead = is("skewed") ? 3600_000 : 0;
  const add = (name, dataType, value, changes) => {
    held[name] = value;
    let at = new Date(Date.now() + ahead);
    const now = () => new DataValue({ value: new Variant({ dataType, value: held[name] }), sourceTimestamp: at });
    const node = space.addVariable({ componentOf: line, nodeId: "s=Line." + name, browseName: name, dataType, minimumSamplingInterval: 20,
      value: { timestamped_get: now,
        timestamped_set: async (v) => { held[name] = v.value.value; at = new Date(Date.now() + ahead); return StatusCodes.Good; } } });
    if (changes) setInterval(() => { held[name] = changes(held[name]); at = new Date(Date.now() + ahead); }, 50);
    return node;
  };
  for (let i = 0; i < 120; i++) add("V" + i, DataType.UInt32, 0, (v) => v + 1);
  if (!is("without")) add("Late", DataType.Int16, 7);
  add("Order", DataType.String, "AW1");
  add("Ready", DataType.Boolean, true);
  add("Ack", DataType.UInt16, 0);
  space.addVariable({ componentOf: line, nodeId: "s=Line.Weights", browseName: "Weights", dataType: DataType.Float, valueRank: 1, arrayDimensions: [3],
    value: new Variant({ dataType: DataType.Float, arrayType: VariantArrayType.Array, value: new Float32Array([1.5, 2.5, 3.5]) }) });
  if (is("scales")) {
    const addressSpace = server.engine.addressSpace;
    const scales = addressSpace.getNamespaceIndex("http://opcfoundation.org/UA/Scales/V2/");
    const weight = addressSpace.constructExtensionObject(addressSpace.findDataType("WeightType", scales), { gross: 12.5, net: 10.25, tare: 2.25 });
    for (const [name, type] of [["Weight", addressSpace.findDataType("WeightType", scales)], ["Total", addressSpace.findDataType("Structure")]]) {
      space.addVariable({ componentOf: line, nodeId: "s=Line." + name, browseName: name, dataType: type.nodeId,
        minimumSamplingInterval: 50, value: { timestamped_get: () => new DataValue({ value: new Variant({ dataType: DataType.ExtensionObject, value: weight }) }) } });
    }
  }
  if (is("old")) {
    // The dictionaries of the standard's nodesets stay: they are all that a server of 1.03 has.
    const type = Object.getPrototypeOf(server.engine.addressSpace.findDataType("Double"));
    const read = type.readAttribute;
    type.readAttribute = function (context, attribute, ...more) {
      return attribute === AttributeIds.DataTypeDefinition ? new DataValue({ statusCode: StatusCodes.BadAttributeIdInvalid }) : read.call(this, context, attribute, ...more);
    };
  }
  await server.start();
  const chain = server.getCertificateChain();
  const der = Array.isArray(chain) ? chain[0] : chain.subarray(0, chain.readUInt16BE(2) + 4); // by version
  console.log("ready " + crypto.createHash("sha256").update(der).digest("hex"));
})().catch((e) => { console.log("failed " + e.stack); process.exit(1); });
