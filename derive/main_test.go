package derive

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain draws fewer runs of each property under the race detector, unless
// somebody says how many.
func TestMain(m *testing.M) {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "rapid.checks" })
	if raceDetector && !told {
		if err := flag.Set("rapid.checks", "20"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	os.Exit(m.Run())
}
