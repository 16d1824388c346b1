package nextplus

import (
	"testing"

	"github.com/sluice-edge/sluice/config"
	fake "github.com/sluice-edge/sluice/internal/central/nextplus"
	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink"
)

// TestUUIDs holds our ids against RFC 9562's and Python's uuid5.
func TestUUIDs(t *testing.T) {
	if got := id("a", "b"); got != "935ea972-5dca-5360-9a86-1544eac530c8" {
		t.Errorf("got %s", got)
	}
	if id("a", "bc") == id("ab", "c") {
		t.Error("two things have one id")
	}
}

// TestForms: each kind and action, field for field and in the form's order.
func TestForms(t *testing.T) {
	s := newShop(t, fake.ERP{}).open()
	s.accepted(
		s.serial("add", "SN-1", ""), s.attach("add", 1, "SN-1", ""), s.attach("add", 2, "SN-1", "SEAL-7"), s.operation("add", 1, 0, "SN-1"),
		s.attach("remove", 1, "SN-1", ""), s.serial("update", "SN-2", "SN-1"), s.operation("remove", 1, 0, "SN-1"), s.serial("remove", "SN-2", ""),
	)
	order := `"workorderId":"` + id("workorder", "ERP", "WO-1") + `"`
	stock := `"stockId":"` + id("stock", "PUMP", "SN-1") + `"` // the unit's, whatever it is called later
	ours := func(sequence string) string {
		return order + `,` + stock + `,"sessionId":"` + id("session", "gw/STATION-1/0000000000000007-"+sequence) + `","workorderExternalId":"ERP-WO-9"`
	}
	want := []string{
		`{"type":"add","workorderNumber":"WO-1","sku":"PUMP","serial":"SN-1",` + ours("1") + `}`,
		`{"type":"add","workorderNumber":"WO-1","sku":"PUMP","serial":"SN-1","externalId":"ERP-DEV-1","item":{"sku":"SEAL","quantity":5,"workorderNumber":"WO-SUB-4"},` + ours("2") + `}`,
		`{"type":"add","workorderNumber":"WO-1","sku":"PUMP","serial":"SN-1","externalId":"ERP-DEV-1","item":{"sku":"SEAL","quantity":1,"serial":"SEAL-7","workorderNumber":"WO-SUB-4"},` + ours("3") + `}`,
		`{"type":"add","sku":"PUMP","serial":"SN-1","workorderNumber":"WO-1","actCode":"TEST","workCenterCode":"WC-8","position":20,"validQty":1,"invalidQty":0,` + ours("4") + `,"operationExternalId":"ERP-OPX-3"}`,
		`{"type":"remove","workorderNumber":"WO-1","sku":"PUMP","serial":"SN-1","externalId":"ERP-DEV-1","item":{"sku":"SEAL","quantity":5,"workorderNumber":"WO-SUB-4","externalId":"ERP-COMP-2"},` + ours("5") + `}`,
		`{"type":"update","workorderNumber":"WO-1","sku":"PUMP","serial":"SN-2","oldSerial":"SN-1","externalId":"ERP-DEV-1",` + ours("6") + `}`,
		`{"type":"remove","sku":"PUMP","serial":"SN-1","workorderNumber":"WO-1","externalId":"ERP-OP-4","actCode":"TEST","workCenterCode":"WC-8","position":20,"validQty":1,"invalidQty":0,` + ours("7") + `,"operationExternalId":"ERP-OPX-3"}`,
		`{"type":"remove","workorderNumber":"WO-1","sku":"PUMP","serial":"SN-2","externalId":"ERP-DEV-1",` + ours("8") + `}`,
	}
	got := s.erp.Accepted()
	if len(got) != len(want) {
		t.Fatalf("%d of %d arrived", len(got), len(want))
	}
	for i := range want {
		if string(got[i].Body) != want[i] {
			t.Errorf("event %d is\n%s\nwant\n%s", i+1, got[i].Body, want[i])
		}
	}
	s.faultless()
}

// TestAbsentRatherThanNull: what the form says may be null is null, what is there
// under a condition only is absent without it.
func TestAbsentRatherThanNull(t *testing.T) {
	s := newShop(t, fake.ERP{NoExternalID: true}).open()
	bare := &plant.Order{Number: "WO-1", Source: "ERP", SKU: "PUMP"}
	one := plant.WholeDecimal(1)
	s.accepted(
		s.event("M", plant.KindSerial, plant.Serial{Head: head("M", bare), Action: "add", Serial: "SN-1"}),
		s.event("M", plant.KindSerial, plant.Serial{Head: head("M", bare), Action: "remove", Serial: "SN-1"}),
		s.event("M", plant.KindOperation, plant.Operation{Head: head("M", bare), Action: "add", RoutingOperation: "ASSY", WorkCenter: "W", Position: "0010", Valid: &one}),
		s.event("M", plant.KindOperation, plant.Operation{Head: head("M", bare), Action: "remove", RoutingOperation: "ASSY", WorkCenter: "W", Position: "0010", Valid: &one}),
	)
	for i, want := range []map[string]any{
		{"externalId": nil, "has": false, "workorderExternalId": true},
		{"externalId": nil, "has": false, "workorderExternalId": true},
		{"externalId": nil, "has": false, "workorderExternalId": true, "operationExternalId": true},
		{"externalId": nil, "has": true, "workorderExternalId": true, "operationExternalId": true},
	} {
		got := fields(t, string(s.erp.Accepted()[i].Body))
		value, has := got["externalId"]
		if has != want["has"] || value != nil {
			t.Errorf("event %d: externalId is there %v: %v", i+1, has, value)
		}
		for _, null := range []string{"workorderExternalId", "operationExternalId"} {
			if _, wanted := want[null]; !wanted {
				continue
			}
			if value, has := got[null]; !has || value != nil {
				t.Errorf("event %d: %s is there %v: %v, want null", i+1, null, has, value)
			}
		}
	}
	if got := fields(t, string(s.erp.Accepted()[2].Body)); got["position"] != 10.0 || got["validQty"] != 1.0 || got["invalidQty"] != 0.0 || got["sku"] != "PUMP" {
		t.Errorf("got %v", got)
	}
	if _, has := fields(t, string(s.erp.Accepted()[2].Body))["serial"]; has {
		t.Error("an operation without a serial number has one")
	}
	s.faultless()
}

// TestOnlyTheSource: events of orders of another source, of none, and passes of a
// unit are no business of the receiver.
func TestOnlyTheSource(t *testing.T) {
	s := newShop(t, fake.ERP{WorkOrders: []string{"WO-1"}}).open()
	other, near := *testOrder, *testOrder
	other.Number, other.Source = "X-1", "MES"
	near.Number, near.Source = "X-2", "erp"
	results := s.send(
		s.event("M", plant.KindSerial, plant.Serial{Head: head("M", &other), Action: "add", Serial: "SN-1", SKU: "PUMP"}),
		s.event("M", plant.KindSerial, plant.Serial{Head: head("M", &near), Action: "add", Serial: "SN-1", SKU: "PUMP"}),
		s.event("M", plant.KindSerial, plant.Serial{Head: head("M", nil), Action: "add", Serial: "SN-1", SKU: "PUMP"}),
		s.event("M", plant.KindSerial, plant.Serial{Head: head("M", testOrder), Action: "update", Serial: "SN-1", SKU: "PUMP", Pass: 2}),
		s.event("M", plant.KindSerial, plant.Serial{Head: head("M", testOrder), Action: "add", Serial: "SN-1", SKU: "PUMP"}),
	)
	same(t, statuses(results), plant.Skipped, plant.Skipped, plant.Skipped, plant.Skipped, plant.Delivered)
	if len(s.erp.Accepted()) != 1 {
		t.Errorf("%d requests", len(s.erp.Accepted()))
	}
	s.faultless()
}

// TestWhatAnEventLacks is said with what to do, and nothing is sent.
func TestWhatAnEventLacks(t *testing.T) {
	s := newShop(t, fake.ERP{}).open()
	bare := &plant.Order{Number: "WO-1", Source: "ERP"}
	one := plant.WholeDecimal(1)
	for what, e := range map[string]plant.Event{
		"no sku":              s.event("M", plant.KindSerial, plant.Serial{Head: head("M", bare), Action: "add", Serial: "SN"}),
		"no serial":           s.event("M", plant.KindSerial, plant.Serial{Head: head("M", testOrder), Action: "add"}),
		"no quantity":         s.event("M", plant.KindItemAttach, plant.ItemAttach{Head: head("M", testOrder), Action: "add", Item: plant.AttachedItem{SKU: "SEAL"}}),
		"no actCode":          s.event("M", plant.KindOperation, plant.Operation{Head: head("M", bare), Action: "add", SKU: "PUMP", WorkCenter: "W", Position: "1", Valid: &one}),
		"no workCenterCode":   s.event("M", plant.KindOperation, plant.Operation{Head: head("M", bare), Action: "add", SKU: "PUMP", RoutingOperation: "A", Position: "1", Valid: &one}),
		"no position":         s.event("M", plant.KindOperation, plant.Operation{Head: head("M", bare), Action: "add", SKU: "PUMP", RoutingOperation: "A", WorkCenter: "W", Position: "left", Valid: &one}),
		"no validQty":         s.event("M", plant.KindOperation, plant.Operation{Head: head("M", testOrder), Action: "add"}),
		"cannot be read":      {Machine: "M", Sequence: 99, Kind: plant.KindSerial, Data: []byte("[")},
		"no serial, item too": s.event("M", plant.KindSerial, plant.Serial{Head: head("M", testOrder), Action: "remove"}),
	} {
		t.Run(what, func(t *testing.T) {
			r := s.send(e)
			same(t, statuses(r), plant.Rejected)
			if r[0].Cause == nil || r[0].Cause.Error() == "" {
				t.Errorf("no cause: %+v", r[0])
			}
		})
	}
	if n := len(s.erp.Accepted()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

// TestCodes: articles, components, operations and work centers have the names of
// the receiver; what its tables do not have goes as it is, and is listed.
func TestCodes(t *testing.T) {
	table := func(ours, theirs string) config.Table[uplink.Code] {
		return config.Table[uplink.Code]{Rows: []config.Row[uplink.Code]{{Name: ours, Value: uplink.Code{Theirs: theirs}}}}
	}
	s := newShop(t, fake.ERP{})
	s.options.Codes = uplink.CodeTables{Article: table("PUMP", "4711"), Component: table("SEAL", "0815"), Operation: table("TEST", "30"), WorkCenter: table("WC-9", "nowhere")}
	s.open()
	s.accepted(s.serial("add", "SN-1", ""), s.attach("add", 1, "SN-1", ""), s.operation("add", 1, 0, "SN-1"))
	attach, operation := fields(t, s.bodies(fake.ItemPath)[0]), fields(t, s.bodies(fake.OperationPath)[0])
	if item := attach["item"].(map[string]any); attach["sku"] != "4711" || item["sku"] != "0815" || operation["actCode"] != "30" || operation["workCenterCode"] != "WC-8" {
		t.Errorf("got %v and %v", attach, operation)
	}
	unmapped, _ := s.sender.codes.Unmapped()
	if len(unmapped) != 1 || unmapped[0].Kind != plant.CodeWorkCenter || unmapped[0].Code != "WC-8" {
		t.Errorf("unmapped: %+v", unmapped)
	}
	s.faultless()
}
