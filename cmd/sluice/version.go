package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// version is set by the build (-ldflags "-X main.version=…").
var version = "dev"

// versionCmd prints what this binary is.
type versionCmd struct {
	JSON bool `help:"Print one JSON document."`
}

// buildInfo is what version prints.
type buildInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() buildInfo {
	b := buildInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = s.Value
			}
		}
	}
	return b
}

// Run prints the version.
func (v *versionCmd) Run(c *console) error {
	b := thisBuild()
	if v.JSON {
		return json.NewEncoder(c.Out).Encode(b)
	}
	_, err := fmt.Fprintln(c.Out, b)
	return err
}

// String returns what is known, on one line.
func (b buildInfo) String() string {
	known := slices.DeleteFunc([]string{"sluice", b.Version, b.Commit, b.Go, b.Platform}, func(s string) bool { return s == "" })
	return strings.Join(known, " ")
}

// versionFlag is the same for who tries a flag first.
type versionFlag bool

// BeforeReset prints the version and leaves: kong calls it as soon as it has
// seen the flag, before it asks for a command.
func (versionFlag) BeforeReset(app *kong.Kong) error {
	if _, err := fmt.Fprintln(app.Stdout, thisBuild()); err != nil {
		return err
	}
	app.Exit(0)
	return nil
}
