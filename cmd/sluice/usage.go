package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sluice-edge/sluice/config"
)

// wrongUsage puts what the parser refuses into words, with the help that lists
// what there is.
func wrongUsage(root *kong.Node, args []string, err error) string {
	words, help := err.Error(), "sluice --help"
	// The parser names its own sign for the end of the line.
	if flag, _, ended := strings.Cut(words, `: expected `); ended && strings.HasSuffix(words, "(<EOL>)") {
		words = flag + ": nothing stands behind it"
	}
	var refused *kong.ParseError
	if errors.As(err, &refused) {
		if at := refused.Context.Selected(); at != nil {
			help = commandOf(at) + " --help"
		} else if typed, meant := deeper(root, args); len(meant) > 0 {
			words = fmt.Sprintf("there is no command %s by itself: it is %s", typed, strings.Join(meant, " or "))
		}
	}
	return words + " — see: " + help
}

// commandOf is what is typed for a command: "sluice uplink forget".
func commandOf(n *kong.Node) string { return strings.Join(strings.Fields(n.FullPath()), " ") }

// deeper returns the commands below others that have the name of one of the
// arguments, and which argument that is.
func deeper(root *kong.Node, args []string) (typed string, found []string) {
	for _, arg := range args {
		for _, n := range root.Leaves(true) {
			for ; n.Parent != root; n = n.Parent {
				if name := commandOf(n); n.Name == arg && !slices.Contains(found, name) {
					found = append(found, name)
				}
			}
		}
		if len(found) > 0 {
			return arg, found
		}
	}
	return "", nil
}

// remedied adds what helps to an error of the file system that says nothing but
// what the system said. A command other than run is often typed by somebody who is
// not the gateway's user.
func remedied(command string, err error) error {
	const asRoot = "as root"
	if command == "run" || !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), asRoot) {
		return err
	}
	return fmt.Errorf("%w: this user may not: run the command as the gateway's user (sudo -u sluice) or %s", err, asRoot)
}

// createFile makes a file, or says which folder is not there.
func createFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no folder %s: make it, or name a file elsewhere", filepath.Dir(path))
	}
	return f, err
}

// afterwards returns the moment that much later, or with -1 for sign earlier, in
// the words of the config: 90m, 2h, 1d, 1w. Whole days are those of the calendar,
// so that the hour stays when the clocks are changed.
func afterwards(now time.Time, text string, sign int) (time.Time, error) {
	var d config.Duration
	if err := d.UnmarshalText([]byte(text)); err != nil {
		return time.Time{}, err
	}
	if day := 24 * time.Hour; d.Std()%day == 0 && strings.ContainsAny(text, "dw") {
		return now.AddDate(0, 0, sign*int(d.Std()/day)), nil
	}
	return now.Add(time.Duration(sign) * d.Std()), nil
}

// noUplink refuses a name that no uplink of the config has.
func (p *plan) noUplink(name string) error {
	return config.Unknown("", "uplink", name, p.uplinkNames())
}

func (p *plan) uplinkNames() []string {
	names := make([]string, len(p.Uplinks))
	for i := range p.Uplinks {
		names[i] = p.Uplinks[i].Name
	}
	return names
}

func (p *plan) machineNames() []string {
	names := make([]string, len(p.Machines))
	for i, m := range p.Machines {
		names[i] = string(m.Machine())
	}
	return names
}

// knowsMachines refuses names that no machine of the config has.
func (p *plan) knowsMachines(names []string) error {
	for _, name := range names {
		if known := p.machineNames(); !slices.Contains(known, name) {
			return &exitError{code: exitUsage, cause: config.Unknown("", "machine", name, known)}
		}
	}
	return nil
}
