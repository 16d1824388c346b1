package opcua

import "testing"

func TestReadsWordsWhatMakesAValue(t *testing.T) {
	const head = "driver: opcua\nendpoint: ENDPOINT\nchannel: None\nallow_insecure: true\ntags:\n"
	p := checkPlan(t, head+"  a: {node: 'ns=2;s=A', sampling: 1s}\n  b: 'ns=2;s=A'\n  c: {node: 'ns=2;s=A', member: net}\n  d: {node: 'ns=2;s=A', type: int32}\n  e: {node: 'ns=2;s=A', scale: 0.10}\n  f: {node: 'ns=2;s=A', type: int32, scale: 0.1}\n", "opc.tcp://127.0.0.1:4840")
	reads, seen := p.Reads(), map[string]bool{}
	for _, words := range reads {
		seen[words] = true
	}
	if len(reads) != 6 || len(seen) != 5 || reads["a"] != reads["b"] || reads["e"] != "ns=2;s=A, scale 0.1" {
		t.Errorf("%q", reads)
	}
}
