package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Config is the checked envelope of a plant and the sections inside of it.
type Config struct {
	Site   Site
	Buffer Buffer
	HTTP   HTTP
	Log    Log
	// Devices, Machines and Uplinks are in the order of the files. A device or
	// uplink without a Driver has been reported.
	Devices  []*Section
	Machines []*Section
	// Lines are the wires that devices share; they have no Driver.
	Lines   []*Section
	Uplinks []*Section
}

// Load reads one config file, or all *.yaml files of a folder as fragments of
// one config, in the order of their names. It returns every fault of the
// envelope; faults inside the sections are found by Section.Decode. The Config
// is never nil and of use only if the faults hold no error. It reads files and
// blocks for as long as that takes.
func Load(path string) (*Config, Faults) {
	files, faults := fragments(path)
	l := newLoader()
	l.faults, l.broken = faults, len(files) == 0
	for _, file := range files {
		text, err := read(file)
		if err != nil {
			l.fault(Position{File: file, Line: 1, Column: 1}, "", "the config cannot be read: "+cause(err), remedyOf(err, "check the path, or name another file with --config"))
			l.broken = true
			continue
		}
		l.fragment(file, text)
	}
	l.finish(path)
	return l.config, l.faults.Sort()
}

func read(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a file")
	}
	if info.Size() > maxFile {
		return make([]byte, maxFile+1), nil // refused by its size, with the remedy that belongs to it
	}
	return os.ReadFile(file)
}

// cause is what is wrong with a file, without its name: the position has it.
func cause(err error) string {
	var named *fs.PathError
	if errors.As(err, &named) {
		return named.Err.Error()
	}
	return err.Error()
}

// fragments returns the files of a config.
func fragments(path string) ([]string, Faults) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, nil // a missing file is reported by read
	}
	at := Position{File: path, Line: 1, Column: 1}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, Faults{{Position: at, Problem: "the folder cannot be read: " + cause(err), Remedy: remedyOf(err, "check the path")}}
	}
	var files []string
	var faults Faults
	for _, e := range entries {
		switch name := filepath.Join(path, e.Name()); {
		case strings.HasPrefix(e.Name(), "."), e.IsDir():
		case filepath.Ext(name) == ".yaml":
			files = append(files, name)
		case filepath.Ext(name) == ".yml":
			faults = append(faults, Fault{
				Position: Position{File: name, Line: 1, Column: 1}, Warning: true,
				Problem: "the file is not read", Remedy: "rename it to end in .yaml",
			})
		}
	}
	if len(files) == 0 {
		faults = append(faults, Fault{Position: at, Problem: "the folder holds no *.yaml file", Remedy: "put the config there, or name another with --config"})
	}
	return files, faults
}

// loader merges fragments into one Config.
type loader struct {
	config *Config
	faults Faults
	// broken is set once a file could not be parsed: what is missing may be in
	// it.
	broken bool
	// first is where a section was first described.
	first map[string]Position
}

func newLoader() *loader {
	return &loader{config: &Config{Buffer: defaultBuffer(), HTTP: defaultHTTP(), Log: defaultLog()}, first: make(map[string]Position)}
}

func (l *loader) fault(at Position, path, problem, remedy string) {
	l.faults = append(l.faults, Fault{Position: at, Path: path, Problem: problem, Remedy: remedy})
}

// envelope are the sections of a config.
var envelope = []string{"site", "buffer", "http", "log", "lines", "devices", "machines", "uplinks"}

func (l *loader) fragment(file string, text []byte) {
	root, faults := parse(file, "", text)
	l.faults = append(l.faults, faults...)
	if root == nil {
		l.broken = true
		return
	}
	for i := range root.entries {
		e := root.entries[i]
		if meant, ok := Nearest(e.key, envelope); ok && meant != e.key && root.find(meant) == nil {
			// Named once, and read as what it stands for: all else in it, and what
			// refers to it, is checked in the same run.
			l.fault(e.keyAt, "", "unknown key `"+shorten(e.key)+"`", suggest(e.key, envelope))
			e.key = meant
		}
		switch e := &e; e.key {
		case "site":
			l.part(e, &l.config.Site)
		case "buffer":
			l.part(e, &l.config.Buffer)
		case "http":
			l.part(e, &l.config.HTTP)
		case "log":
			l.part(e, &l.config.Log)
		case "lines":
			l.config.Lines = l.sections(e, l.config.Lines)
		case "devices":
			l.config.Devices = l.sections(e, l.config.Devices)
		case "machines":
			l.config.Machines = l.sections(e, l.config.Machines)
		case "uplinks":
			l.config.Uplinks = l.sections(e, l.config.Uplinks)
		default:
			l.fault(e.keyAt, "", "unknown key `"+shorten(e.key)+"`", suggest(e.key, envelope))
		}
	}
}

// once reports whether path is described for the first time.
func (l *loader) once(path string, at Position) bool {
	if first, twice := l.first[path]; twice {
		l.fault(at, path, "is here twice, first in "+first.String(), "remove or rename one of the two")
		return false
	}
	l.first[path] = at
	return true
}

// part decodes one of the envelope's own sections.
func (l *loader) part(e *entry, into any) {
	if l.once(e.key, e.keyAt) {
		s := &Section{Name: e.key, path: e.key, at: e.place(), root: e.value}
		l.faults = append(l.faults, s.Decode(into)...)
	}
}

func (l *loader) sections(e *entry, all []*Section) []*Section {
	if e.value.kind != mappingNode {
		l.fault(e.place(), e.key, e.value.describe()+" where a mapping is expected", "write one `name: {…}` for each")
		return all
	}
	for i := range e.value.entries {
		one := &e.value.entries[i]
		path := join(e.key, one.key)
		if problem := unusable(one.key); problem != "" {
			l.fault(one.keyAt, path, "the name "+problem, nameRemedy) // it is there, though: others may name it
		}
		if !l.once(path, one.keyAt) {
			continue
		}
		all = append(all, l.section(e.key, path, one))
	}
	return all
}

// section makes one section. A broken one is made, too: others may name it.
func (l *loader) section(kind, path string, e *entry) *Section {
	s := &Section{Name: e.key, path: path, at: e.place(), root: e.value}
	if e.value.kind != mappingNode {
		remedy := "write the keys below the name, indented"
		if spaced, ok := unspaced(e.value.text); ok {
			remedy = "write `" + shorten(spaced) + "`, with a space after the colon"
		}
		l.fault(e.place(), path, e.value.describe()+" where a mapping of keys is expected", remedy)
		s.root = &node{kind: mappingNode, at: e.place()}
		return s
	}
	if kind == "machines" || kind == "lines" {
		return s
	}
	driver := e.value.find("driver")
	if driver == nil || driver.value.kind != scalarNode || driver.value.text == "" {
		l.fault(e.place(), path, "required key `driver` is missing", "add it, for example driver: "+example(kind))
		return s
	}
	s.Driver, s.taken = driver.value.text, []string{"driver"}
	return s
}

func example(sections string) string {
	if sections == "devices" {
		return "modbus"
	}
	return "mqtt"
}

// finish adds what only the whole config can lack.
func (l *loader) finish(path string) {
	if _, ok := l.first["site"]; !ok && !l.broken {
		l.fault(Position{File: path, Line: 1, Column: 1}, "", "the section `site` is missing", "add site: {enterprise: …, site: …, area: …}, the names that events carry")
	}
	if l.config.Site.Gateway == "" {
		l.config.Site.Gateway = hostName()
	}
}
