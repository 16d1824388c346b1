// Package docs carries what the pages say into the binary, so that an editor
// shows of a key of the config what docs/config.md says of it.
package docs

import (
	"embed"
	"regexp"
	"strings"
)

//go:embed config.md
var pages embed.FS

// Key is a row of a table of docs/config.md, in Markdown: what the key means,
// its default, and what may be written.
type Key struct{ Meaning, Default, Allowed string }

// row is a row of the tables "key, meaning, default, allowed". None of the cells
// holds a bar.
var row = regexp.MustCompile("^\\| `([^`]+)` \\|([^|]*)\\|([^|]*)\\|([^|]*)\\|")

// ConfigKeys returns the keys of docs/config.md by the heading that they are
// under and their name.
func ConfigKeys() map[string]map[string]Key {
	page, err := pages.ReadFile("config.md")
	if err != nil {
		panic(err) // it was there when the program was built
	}
	found := make(map[string]map[string]Key)
	heading, inTable := "", false
	for line := range strings.Lines(string(page)) {
		switch {
		case strings.HasPrefix(line, "#"):
			heading, inTable = strings.TrimSpace(strings.TrimLeft(line, "#")), false
		case strings.HasPrefix(line, "| key | meaning | default |"):
			inTable = true
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case inTable:
			if m := row.FindStringSubmatch(line); m != nil {
				if found[heading] == nil {
					found[heading] = make(map[string]Key)
				}
				found[heading][m[1]] = Key{strings.TrimSpace(m[2]), strings.TrimSpace(m[3]), strings.TrimSpace(m[4])}
			}
		}
	}
	return found
}

var (
	link  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	below = regexp.MustCompile(`, see (below|\[[^\]]*\]\(#[^)]*\))`)
	set   = regexp.MustCompile("^`\\w+`(, `\\w+`)*$")
)

// Text returns what the key means and what may be written, as plain text.
func (k Key) Text() string {
	text := k.Meaning
	if k.Allowed != "" && !strings.HasPrefix(k.Allowed, "as ") {
		text += " — " + k.Allowed
	}
	text = link.ReplaceAllString(below.ReplaceAllString(text, ""), "$1")
	return strings.ReplaceAll(text, "`", "")
}

// Words returns all that may be written, where that is a closed set of words; nil
// where it is not.
func (k Key) Words() []string {
	if !set.MatchString(k.Allowed) {
		return nil
	}
	return strings.Split(strings.ReplaceAll(k.Allowed, "`", ""), ", ")
}
