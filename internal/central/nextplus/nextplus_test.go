package nextplus_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/internal/central"
	"github.com/sluice-edge/sluice/internal/central/nextplus"
)

const ids = `,"workorderId":"550e8400-e29b-41d4-a716-446655440000","stockId":"550e8400-e29b-41d4-a716-446655440001","sessionId":"550e8400-e29b-41d4-a716-446655440002"`

func post(t *testing.T, f *nextplus.Fake, path, body string, header ...string) (int, map[string]string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	var said map[string]string
	if w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil {
			t.Errorf("%s: answered %q: %v", body, w.Body, err)
		}
	}
	return w.Code, said
}

func device(kind, serial, more string) string {
	return `{"type":"` + kind + `","workorderNumber":"WO-12345","sku":"DEVICE-SKU","serial":"` + serial + `"` + more + ids + `}`
}

func attach(kind, parent, item, more string) string {
	return `{"type":"` + kind + `","workorderNumber":"WO-12345","sku":"DEVICE-SKU","serial":"` + parent + `","item":{"sku":"COMPONENT-SKU","quantity":5` + item + `}` + more + ids + `}`
}

func operation(kind, more string) string {
	return `{"type":"` + kind + `","workorderNumber":"WO-12345","sku":"DEVICE-SKU","actCode":"ASSY","workCenterCode":"WC-123","position":10,"validQty":1,"invalidQty":0` + more + ids + `}`
}

// TestTheLifeOfADevice sends what Next Plus would, field for field.
func TestTheLifeOfADevice(t *testing.T) {
	f := nextplus.New(nextplus.ERP{WorkOrders: []string{"WO-12345"}})
	want := func(path, body, id string) {
		t.Helper()
		if status, said := post(t, f, path, body); status != 200 || said["externalId"] != id {
			t.Fatalf("%s: %d %v, want %s", body, status, said, id)
		}
	}
	want(nextplus.DevicePath, device("add", "SN1", `,"workorderExternalId":null`), "ERP-DEV-1")
	want(nextplus.ItemPath, attach("add", "SN1", `,"serial":"COMP-1"`, `,"externalId":"ERP-DEV-1"`), "ERP-COMP-2")
	want(nextplus.OperationPath, operation("add", `,"serial":"SN1","operationExternalId":null,"workorderExternalId":"ERP-WO-123"`), "ERP-OP-3")
	want(nextplus.DevicePath, device("update", "SN2", `,"oldSerial":"SN1","externalId":"ERP-DEV-1"`), "ERP-DEV-1")
	if found := f.Violations(); len(found) > 0 {
		t.Error(central.Words(found))
	}
}

func TestTheWholeLifeIsBooked(t *testing.T) {
	f := nextplus.New(nextplus.ERP{})
	for _, c := range []struct{ path, body string }{
		{nextplus.DevicePath, device("add", "SN1", "")},
		{nextplus.ItemPath, attach("add", "SN1", "", `,"externalId":"ERP-DEV-1"`)},
		{nextplus.ItemPath, attach("remove", "SN1", `,"externalId":"ERP-COMP-2"`, `,"externalId":"ERP-DEV-1"`)},
		{nextplus.OperationPath, operation("add", "")},
		{nextplus.OperationPath, operation("remove", `,"externalId":"ERP-OP-3","operationExternalId":"ERP-OP-3"`)},
		{nextplus.DevicePath, device("update", "SN2", `,"oldSerial":"SN1","externalId":"ERP-DEV-1"`)},
	} {
		if status, said := post(t, f, c.path, c.body); status != 200 {
			t.Fatalf("%s: %d %v", c.body, status, said)
		}
	}
	d := f.Device("SN2")
	if d == nil || d.ExternalID != "ERP-DEV-1" || d.Times != 1 || len(d.Was) != 1 || f.Device("SN1") != nil || f.Devices() != 1 {
		t.Errorf("the device is %+v", d)
	}
	if items := f.Items(); len(items) != 1 || !items[0].Removed || items[0].Quantity != 5 || items[0].Parent != "SN1" {
		t.Errorf("the items are %+v", items)
	}
	if ops := f.Operations(); len(ops) != 1 || !ops[0].Removed || ops[0].Valid != 1 {
		t.Errorf("the operations are %+v", ops)
	}
	if got := len(f.Accepted()); got != 6 {
		t.Errorf("%d payloads are accepted", got)
	}
	if found := f.Violations(); len(found) > 0 {
		t.Errorf("violations:\n%s", central.Words(found))
	}
	if status, _ := post(t, f, nextplus.DevicePath, device("remove", "SN2", `,"externalId":"ERP-DEV-1"`)); status != 200 || f.Devices() != 0 {
		t.Errorf("removed: %d, %d devices are left", status, f.Devices())
	}
}

// TestEveryBadPayloadIsNoted has one fault a row, in an ERP that has SN1 with a
// component and an operation.
func TestEveryBadPayloadIsNoted(t *testing.T) {
	const dev, item, op = nextplus.DevicePath, nextplus.ItemPath, nextplus.OperationPath
	parent := `,"externalId":"ERP-DEV-1"`
	for _, c := range []struct {
		name, path, body string
		status           int
		rule             string
	}{
		{"an unknown path", "/devices", device("add", "SN9", ""), 404, nextplus.RuleRequest},
		{"a query", dev + "?x=1", device("add", "SN9", ""), 400, nextplus.RuleRequest},
		{"no JSON", dev, "type=add", 400, nextplus.RuleBody},
		{"a field twice", dev, `{"type":"add",` + device("add", "SN9", "")[1:], 400, nextplus.RuleBody},
		{"an unknown field", dev, device("add", "SN9", `,"lot":"L1"`), 400, nextplus.RuleBody},
		{"an unknown type", dev, device("change", "SN9", ""), 400, nextplus.RuleBody},
		{"no serial", dev, device("add", "", ""), 400, nextplus.RuleBody},
		{"ids that are none", dev, strings.Replace(device("add", "SN9", ""), "550e8400-e29b", "order-7", 1), 400, nextplus.RuleBody},
		{"no session", dev, strings.Replace(device("add", "SN9", ""), "sessionId", "session", 1), 400, nextplus.RuleBody},
		{"oldSerial on add", dev, device("add", "SN9", `,"oldSerial":"SN1"`), 400, nextplus.RuleBody},
		{"externalId on add", dev, device("add", "SN9", `,"externalId":"X"`), 400, nextplus.RuleBody},
		{"a null where there should be nothing", dev, device("remove", "SN1", `,"externalId":null`), 400, nextplus.RuleBody},
		{"an update without oldSerial", dev, device("update", "SN9", parent), 400, nextplus.RuleBody},
		{"another source's order", dev, strings.Replace(device("add", "SN9", ""), "WO-12345", "WO-1", 1), 400, nextplus.RuleSource},
		{"an add of what is there", dev, device("add", "SN1", ""), 200, nextplus.RuleDouble},
		{"a remove of what is not", dev, device("remove", "SN9", ""), 404, nextplus.RuleUnknown},
		{"a remove without the id", dev, device("remove", "SN1", ""), 200, nextplus.RuleExternalID},
		{"a remove with another id", dev, device("remove", "SN1", `,"externalId":"ERP-DEV-9"`), 200, nextplus.RuleExternalID},
		{"an update of an item", item, attach("update", "SN1", "", parent), 400, nextplus.RuleBody},
		{"no quantity", item, strings.Replace(attach("add", "SN1", "", parent), `"quantity":5`, `"lot":"x"`, 1), 400, nextplus.RuleBody},
		{"a quantity as a text", item, strings.Replace(attach("add", "SN1", "", parent), `"quantity":5`, `"quantity":"5"`, 1), 400, nextplus.RuleBody},
		{"a lot in the item", item, attach("add", "SN1", `,"lot":"L1"`, parent), 400, nextplus.RuleBody},
		{"the item's id on add", item, attach("add", "SN1", `,"externalId":"X"`, parent), 400, nextplus.RuleBody},
		{"an unknown parent", item, attach("add", "SN9", "", ""), 404, nextplus.RuleParent},
		{"a parent without its id", item, attach("add", "SN1", "", ""), 200, nextplus.RuleExternalID},
		{"a component attached twice", item, attach("add", "SN1", `,"serial":"COMP-1"`, parent), 200, nextplus.RuleDouble},
		{"a component removed without its id", item, attach("remove", "SN1", `,"serial":"COMP-1"`, parent), 200, nextplus.RuleExternalID},
		{"a component that was never attached", item, attach("remove", "SN1", `,"serial":"COMP-9"`, parent), 404, nextplus.RuleUnknown},
		{"the id on an operation's add", op, operation("add", `,"externalId":null`), 400, nextplus.RuleBody},
		{"a position as a text", op, strings.Replace(operation("add", ""), "10", `"10"`, 1), 400, nextplus.RuleBody},
		{"quantities below 0", op, strings.Replace(operation("add", ""), `"validQty":1`, `"validQty":-1`, 1), 400, nextplus.RuleBody},
		{"an operation removed without its id", op, operation("remove", ""), 200, nextplus.RuleExternalID},
		{"an operation that was never reported", op, strings.Replace(operation("remove", ""), "ASSY", "PACK", 1), 404, nextplus.RuleUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := nextplus.New(nextplus.ERP{WorkOrders: []string{"WO-12345"}})
			post(t, f, dev, device("add", "SN1", ""))
			post(t, f, item, attach("add", "SN1", `,"serial":"COMP-1"`, parent))
			post(t, f, op, operation("add", ""))
			if found := f.Violations(); len(found) > 0 {
				t.Fatalf("before: %s", central.Words(found))
			}
			status, said := post(t, f, c.path, c.body)
			if status != c.status || status >= 400 && said["message"] == "" {
				t.Errorf("answered %d %v, want %d", status, said, c.status)
			}
			if found := f.Violations(); len(found) != 1 || found[0].Rule != c.rule {
				t.Errorf("noted %q, want the rule %q", central.Words(found), c.rule)
			}
			if taken := len(f.Accepted()); taken > 3 != (c.status < 400) {
				t.Errorf("%d payloads are accepted", taken)
			}
		})
	}
}

func TestTheERPMayRefuseAnswerLittleAndKnowKeys(t *testing.T) {
	f := nextplus.New(nextplus.ERP{
		Status: http.StatusFound, NoExternalID: true, NeedsKeys: true, HonoursKeys: true, Authorization: "Bearer t",
		Refuse: func(_ string, fields map[string]any) (int, string) {
			if fields["serial"] == "SN13" {
				return 422, "no thirteen"
			}
			return 0, ""
		},
	})
	auth := []string{"Authorization", "Bearer t"}
	if status, said := post(t, f, nextplus.DevicePath, device("add", "SN13", ""), append(auth, "Idempotency-Key", "k1")...); status != 422 || said["message"] != "no thirteen" {
		t.Errorf("refused with %d %v", status, said)
	}
	for range 2 {
		if status, said := post(t, f, nextplus.DevicePath, device("add", "SN1", ""), append(auth, "Idempotency-Key", "k2")...); status != 302 || said != nil {
			t.Errorf("accepted with %d %v", status, said)
		}
	}
	if d := f.Device("SN1"); d == nil || d.Times != 1 {
		t.Errorf("a repeated key booked %+v", d)
	}
	if found := f.Violations(); len(found) > 0 {
		t.Fatal(central.Words(found))
	}
	post(t, f, nextplus.DevicePath, device("add", "SN2", ""), append(auth, "Idempotency-Key", "k2")...)
	post(t, f, nextplus.DevicePath, device("add", "SN3", ""), auth...)
	post(t, f, nextplus.DevicePath, device("add", "SN4", ""), "Idempotency-Key", "k4")
	found := f.Violations()
	if len(found) != 3 || found[0].Rule != nextplus.RuleKey || found[1].Rule != nextplus.RuleKey || found[2].Rule != nextplus.RuleAuth {
		t.Errorf("noted %s", central.Words(found))
	}
	f.Faults.Add(central.Answered(500, `{"message":"later"}`))
	if status, _ := post(t, f, nextplus.DevicePath, device("add", "SN5", ""), auth...); status != 500 || f.Device("SN5") != nil {
		t.Errorf("a planned fault gave %d", status)
	}
}
