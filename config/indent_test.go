package config

import "testing"

// What indents a line wrongly is named, and hides nothing else; columns count
// as the file has them.
func TestIndent(t *testing.T) {
	const tab, invisible = "a tab indents this line", "an invisible character indents this line: "
	const plain = " — write plain spaces; it often comes with text that was copied from a web page or a document"
	for _, c := range []struct{ name, text, want string }{
		{"tabs only", "site:\n\tarea: c\n\tsite: b\n\tenterprise: a/\n",
			"2:1: " + tab + " (and 2 more) — indent by spaces\n4:14: site.enterprise: the name holds '/', which ids, topics or paths use otherwise — use letters, digits, - _ . and, inside of it, spaces"},
		{"beside four spaces", "site:\n    area: c\n\tsite: b\n    enterprise: a\nhttp: {listen: x}\n",
			"3:1: " + tab + " — indent by spaces\n5:16: http.listen: `x` is no address — write host:port, for example 127.0.0.1:8080"},
		{"beside eight spaces", "site:\n        area: c\n\tsite: b\n        enterprise: a\n", "3:1: " + tab + " — indent by spaces"},
		{"at no width", "site:\n   area: c\n\tsite: b\n   enterprise: a\n", "3:1: " + tab + " — indent by spaces"},
		{"columns", "site:\n\tarea: c\n\tsite: b\n\tenterprise: a\n\ttimezone: Lisbon\n",
			"2:1: " + tab + " (and 3 more) — indent by spaces\n5:12: site.timezone: unknown time zone `Lisbon` — did you mean Europe/Lisbon?"},
		{"a comment", "site: {enterprise: a, site: b, area: c}\n\t# a comment\n\t\nhttp: {}\n", ""},
		{"no-break spaces", "site:\n\u00a0 area: c\n \u00a0site: b\n  enterprise: a\nhttp: {listen: x}\n",
			"2:1: " + invisible + "U+00A0, a no-break space (and 1 lines more)" + plain + "\n5:16: http.listen: `x` is no address — write host:port, for example 127.0.0.1:8080"},
		{"a zero-width space", "site:\n  area: c\n  \u200bsite: b/\n  enterprise: a\n",
			"3:3: " + invisible + "U+200B, a zero-width space" + plain + "\n3:10: site.site: the name holds '/', which ids, topics or paths use otherwise — use letters, digits, - _ . and, inside of it, spaces"},
		{"no space after a colon", "site:\n  enterprise: a\n  site:b\n  area: c\n",
			"3:3: not valid YAML: non-map value is specified — write `site: b`, with a space after the colon"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLoader()
			l.fragment("-", []byte(c.text))
			same(t, messages(l.faults.Sort()), lines(c.want))
		})
	}
}

// Only a fault after which nothing could be read says so.
func TestUnread(t *testing.T) {
	for text, want := range map[string]bool{
		"site: {enterprise: a":                        true,
		"site:\n   area: c\n\tsite: b\n   gateway: a": true, // a tab of no width
		"site:\n\tarea: c\n\tsite: b\n":               false,
		"- a\n":                                       true,
		"\xff\xfes\x00":                               true,
		"site: {enterprise: a, enterprise: b}":        false,
	} {
		root, faults := parse("-", "", []byte(text))
		if got := faults[len(faults)-1].Unread; got != want || (root == nil) != want {
			t.Errorf("%q: unread is %v, want %v: %v", text, got, want, faults)
		}
	}
}
