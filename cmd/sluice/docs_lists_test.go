package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/sluice-edge/sluice/docs"
	"github.com/sluice-edge/sluice/plant"
)

// TestKindsOnTheConfigPage: who copies the list as his filter loses no kind.
func TestKindsOnTheConfigPage(t *testing.T) {
	var listed []plant.EventKind
	for _, word := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(docs.ConfigKeys()["Every uplink"]["kinds"].Allowed, -1) {
		listed = append(listed, plant.EventKind(word[1]))
	}
	want := plant.EventKinds()
	slices.Sort(listed)
	slices.Sort(want)
	if !slices.Equal(listed, want) {
		t.Errorf("docs/config.md, Every uplink, kinds:\n%v\nthe program has\n%v", listed, want)
	}
}

// pages are what people read, by their paths.
func pages(t *testing.T) map[string]string {
	t.Helper()
	root := filepath.Join("..", "..")
	found := make(map[string]string)
	for _, pattern := range []string{"*.md", "docs/*.md", "deploy/*.md", "firmware-notes/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			found[path] = string(text)
		}
	}
	return found
}

// typed is a command line in a page: a span of code or a line of a block.
var typed = regexp.MustCompile("(?m)(?:`|^(?:\\$ )?)(?:sudo (?:-u sluice )?|go run \\./cmd/|\\./)?sluice ([a-z][^`\n#]*)")

// TestCommandsOnThePages: each command line on a page is one that there is, with
// flags that it has, and each command is on a page.
func TestCommandsOnThePages(t *testing.T) {
	parser, err := kong.New(&cli{}, kong.Name("sluice"), kong.Writers(io.Discard, io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[*kong.Node]bool)
	lines := 0
	for path, text := range pages(t) {
		if strings.HasSuffix(path, "CHANGELOG.md") {
			continue // it tells of commands that were
		}
		for _, line := range typed.FindAllStringSubmatch(text, -1) {
			lines++
			at, wrong := onCommandLine(parser.Model.Node, strings.Fields(line[1]))
			if wrong != "" {
				t.Errorf("%s: sluice %s: %s", path, line[1], wrong)
			}
			shown[at] = true
		}
	}
	for _, n := range parser.Model.Leaves(true) {
		if !shown[n] {
			t.Errorf("%s is on no page", commandOf(n))
		}
	}
	if lines < 100 {
		t.Errorf("%d command lines were found: the pages have more", lines)
	}
	for _, c := range []struct{ line, wrong string }{
		{"dead list", "there is no command dead"}, {"events tail --nix", "has no --nix"}, {"uplink", ""}, {"uplink log -u mes -f", ""}, {"events tail -Z", "has no -Z"},
	} {
		if _, wrong := onCommandLine(parser.Model.Node, strings.Fields(c.line)); wrong != c.wrong && !(c.wrong != "" && strings.Contains(wrong, c.wrong)) {
			t.Errorf("sluice %s: %q, want %q", c.line, wrong, c.wrong)
		}
	}
}

// onCommandLine returns the command that the words name, and what of them it does
// not have.
func onCommandLine(at *kong.Node, words []string) (_ *kong.Node, wrong string) {
	quoted := false
	for i, word := range words {
		inside := quoted
		if strings.Count(word, `"`)%2 == 1 {
			quoted = !quoted
		}
		name, _, _ := strings.Cut(strings.Trim(word, "[].,;:()"), "=")
		child := slices.IndexFunc(at.Children, func(n *kong.Node) bool { return n.Name == name })
		switch {
		case inside:
		case child >= 0:
			at = at.Children[child]
		case at.Parent == nil && i == 0:
			return at, "there is no command " + name
		case len(name) > 1 && name[0] == '-' && !hasFlag(at, name):
			return at, commandOf(at) + " has no " + name
		}
	}
	return at, ""
}

func hasFlag(n *kong.Node, name string) bool {
	for ; n != nil; n = n.Parent {
		for _, f := range n.Flags {
			if name == "--"+f.Name || f.Short != 0 && name == "-"+string(f.Short) {
				return true
			}
		}
	}
	return false
}
