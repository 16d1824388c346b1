package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/config"
)

var updateCorpus = flag.Bool("update", false, "rewrite the expected faults of the config corpus")

// The corpus: each *.bad.yaml breaks something different and says at its top
// which faults it must get, as "# want: line:column: path: problem — remedy"
// with the file in front where it is another; a *.good.yaml gets none but
// warnings.
func TestConfigCorpus(t *testing.T) {
	t.Setenv("SLUICE_CORPUS_PASSWORD", "hunter2")
	t.Setenv("SLUICE_CORPUS_EMPTY", "")
	folder := filepath.Join("..", "..", "config", "testdata")
	good, err := filepath.Glob(filepath.Join(folder, "*.good.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	bad, err := filepath.Glob(filepath.Join(folder, "*.bad.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(good) < 3 || len(bad) < 45 {
		t.Fatalf("only %d good and %d bad configs were found", len(good), len(bad))
	}
	first := make(map[string]string)
	for _, file := range append(good, bad...) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if *updateCorpus {
				rewriteWants(t, file, len(corpusFaults(file)))
			}
			got, want := corpusFaults(file), wants(t, file)
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
			_, faults := loadPlan(file, driverKinds, uplinkKinds)
			if isBad := strings.HasSuffix(file, ".bad.yaml"); isBad != (len(faults.Errors()) > 0) {
				t.Errorf("%d errors", len(faults.Errors()))
			}
			for _, f := range faults {
				if strings.Contains(f.String(), "hunter2") {
					t.Errorf("a secret is shown: %s", f)
				}
				if f.Remedy == "" {
					t.Errorf("no remedy: %s", f)
				}
			}
			if key := whatBreaks(faults); key != "" {
				if other, twice := first[key]; twice {
					t.Errorf("breaks the same as %s", other)
				}
				first[key] = filepath.Base(file)
			}
		})
	}
}

// whatBreaks is what a bad config is about, without its places.
func whatBreaks(faults config.Faults) string {
	var b strings.Builder
	for _, f := range faults.Errors() {
		b.WriteString(f.Path + ": " + f.Problem + "\n")
	}
	return b.String()
}

// corpusFaults returns the faults of a file, each named from the folder of the
// corpus.
func corpusFaults(file string) []string {
	_, faults := loadPlan(file, driverKinds, uplinkKinds)
	folder := filepath.Dir(file) + string(filepath.Separator)
	var out []string
	for _, f := range faults {
		text := strings.ReplaceAll(strings.TrimPrefix(f.String(), file+":"), folder, "")
		out = append(out, filepath.ToSlash(text))
	}
	return out
}

const wantMark = "# want: "

func wants(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if want, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), wantMark); ok {
			out = append(out, want)
		}
	}
	return out
}

// rewriteWants first makes room for n faults, so that their lines are right
// when they are written.
func rewriteWants(t *testing.T, file string, n int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var head, rest strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, wantMark) {
			rest.WriteString(line)
		}
	}
	write := func(wants []string) {
		head.Reset()
		for _, want := range wants {
			head.WriteString(wantMark + want + "\n")
		}
		if err := os.WriteFile(file, []byte(head.String()+rest.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(make([]string, n))
	write(corpusFaults(file))
}
