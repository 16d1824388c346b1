package rest

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/plant"
	"github.com/sluice-edge/sluice/uplink/internal/httplink"
	"github.com/sluice-edge/sluice/uplink/uplinktest"
)

// TestAWebPageIsNoReceipt: a login portal and a proxy answer 200 for whatever is
// sent to them, and nobody has the event.
func TestAWebPageIsNoReceipt(t *testing.T) {
	for name, test := range map[string]struct {
		kind, body string
		page       bool
	}{
		"a portal":                  {"text/html; charset=utf-8", "<!DOCTYPE html>\n<html><body>Log in</body></html>", true},
		"without a doctype":         {"text/html", "<HTML lang=de><head>", true},
		"bare":                      {"text/html", "<html>", true},
		"behind a mark and spaces":  {"text/html", "\ufeff\r\n\t <!doctype HTML PUBLIC \"-//W3C\">", true},
		"whatever type it says":     {"application/json", "<!doctype html><title>Sign in", true},
		"longer than what is read":  {"text/html", "<!doctype html>" + strings.Repeat("<p>Welcome</p>", 100_000), true},
		"OK as text/html":           {"text/html", "OK", false},
		"nothing as text/html":      {"text/html", "", false},
		"XML":                       {"application/xml", "<?xml version=\"1.0\"?><ack/>", false},
		"a word that begins so":     {"application/xml", "<htmlish/>", false},
		"a page within an answer":   {"application/json", `{"message":"<!doctype html>"}`, false},
		"another document type":     {"text/xml", "<!DOCTYPE ack><ack/>", false},
		"less than the word itself": {"text/plain", "<!doc", false},
		"XHTML":                     {"text/html", "<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\">", true},
		"behind a comment":          {"text/plain", "<!-- Portal Inc. -->\n<html>", true},
		"a comment without an end":  {"text/plain", "<!-- " + strings.Repeat("licence ", 1000), true},
		"a head alone":              {"text/plain", "<head><meta http-equiv=refresh>", true},
		"any tag as text/html":      {"text/html", "<meta http-equiv=refresh>", true},
		"a declaration alone":       {"application/xml", "<?xml version=\"1.0\"", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := answering(t, func(_ int, _ request, w http.ResponseWriter) bool {
				w.Header().Set("Content-Type", test.kind)
				io.WriteString(w, test.body)
				return false
			})
			for _, change := range []func(*Options){
				func(*Options) {},
				func(o *Options) { o.Batch = 3 },
				func(o *Options) { o.Results = resultsIgnore },
			} {
				o := testOptions(r.Addr())
				change(&o)
				events := uplinktest.Events("M", 1, 3)
				got := openWith(t, o).Send(t.Context(), "M", events)
				switch {
				case !test.page && o.Batch > 1 && test.kind == "application/json":
					// what a batch's JSON must say is tested elsewhere
				case !test.page && delivered(got, 1) != 3:
					t.Errorf("results %+v, want all delivered", got)
				case test.page && (len(got) != 1 || got[0].Status != plant.Retry || !systemWide(got[0]) || got[0].Wait < httplink.WrongWait):
					t.Errorf("results %+v, want that the whole uplink waits", got)
				case test.page && !strings.Contains(got[0].Cause.Error(), "a web page came where an answer was expected: is there a login portal or a proxy in between?"):
					t.Errorf("cause %q", got[0].Cause)
				}
				o.WebPage = webPageDelivered
				if got := openWith(t, o).Send(t.Context(), "M", events); test.page && o.Batch == 1 && delivered(got, 1) != 3 {
					t.Errorf("with web_page: delivered %+v", got)
				}
			}
		})
	}
}
