// A node-opcua server with every policy and every kind of login, and with the
// certificate that it is given. Started by interop_test.go as:
// node trust.js <port> <folder for its certificates> <certificate> <key> <application URI>
const path = require("path");
const { OPCUAServer, Variant, DataType, MessageSecurityMode, SecurityPolicy, OPCUACertificateManager } = require("node-opcua");

(async () => {
  const [port, folder, certificateFile, privateKeyFile, applicationUri] = process.argv.slice(2);
  const manager = async (name) => {
    const m = new OPCUACertificateManager({ rootFolder: path.join(folder, name), automaticallyAcceptUnknownCertificate: true });
    await m.initialize();
    return m;
  };
  const server = new OPCUAServer({
    port: Number(port), hostname: "127.0.0.1", certificateFile, privateKeyFile, serverInfo: { applicationUri },
    serverCertificateManager: await manager("pki"), userCertificateManager: await manager("users"),
    allowAnonymous: true,
    securityPolicies: [SecurityPolicy.None, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes128_Sha256_RsaOaep, SecurityPolicy.Aes256_Sha256_RsaPss],
    securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
    userManager: { isValidUser: (user, password) => user === "gateway" && password === "s3cret" },
  });
  await server.initialize();
  const space = server.engine.addressSpace.registerNamespace("urn:line");
  space.addVariable({ organizedBy: server.engine.addressSpace.rootFolder.objects, nodeId: "s=Line.Made", browseName: "Made", dataType: DataType.UInt32,
    value: new Variant({ dataType: DataType.UInt32, value: 4711 }) });
  await server.start();
  console.log("ready ");
})().catch((e) => { console.log("failed " + e.stack); process.exit(1); });
