package recording

import (
	"bufio"
	"cmp"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

// nameTime is how the name of a file says when it was begun.
const nameTime = "20060102T150405Z"

// parseName takes the name of a recording apart; ok is false for any other file.
func parseName(name string) (m plant.MachineID, begun time.Time, ok bool) {
	rest, ok := strings.CutSuffix(name, Suffix)
	parts := strings.Split(rest, "-")
	if n := len(parts); ok && n >= 4 { // a machine may have a hyphen itself
		escaped, err := url.QueryUnescape(strings.Join(parts[:n-3], "-"))
		if begun, err2 := time.Parse(nameTime, parts[n-3]); err == nil && err2 == nil {
			return plant.MachineID(escaped), begun, true
		}
	}
	return "", begun, false
}

// Stats returns every recording since the start of the gateway, the newest of
// each machine, by machine: also what it has recorded before the start, as far as
// its files are still there. It reads those that it has not counted before, once.
func (s *Set) Stats() []Stats {
	all := []Stats{}
	writing := map[string]uint64{}
	s.each(func(r *recorder) {
		all = append(all, r.stats())
		if name, inputs := r.writing(); name != "" {
			writing[name] = inputs
		}
	})
	slices.SortFunc(all, func(a, b Stats) int { return cmp.Compare(a.Machine, b.Machine) })
	entries, err := os.ReadDir(s.o.Folder)
	if err != nil {
		return all // without a folder there is no file
	}
	for _, e := range entries {
		m, begun, ok := parseName(e.Name())
		i := slices.IndexFunc(all, func(st Stats) bool { return st.Machine == m })
		if !ok || i < 0 || begun.Before(all[i].Begun.Truncate(time.Second)) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // it was the oldest, and has gone
		}
		inputs, open := writing[e.Name()]
		if !open {
			inputs = s.inputs(e.Name())
		}
		all[i].Files++
		all[i].Bytes += info.Size()
		all[i].Inputs += inputs
	}
	return all
}

// inputs returns how many inputs a file holds that nobody writes.
func (s *Set) inputs(name string) uint64 {
	s.disk.Lock()
	n, ok := s.counted[name]
	s.disk.Unlock()
	if ok {
		return n
	}
	n = countInputs(filepath.Join(s.o.Folder, name))
	s.disk.Lock()
	s.counted[name] = n
	s.disk.Unlock()
	return n
}

// countInputs reads a file up to its end, or to where it is damaged.
func countInputs(path string) (n uint64) {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer func() { _ = f.Close() }() // it was only read
	r, err := NewReader(bufio.NewReader(f))
	if err != nil {
		return 0
	}
	for {
		var e Entry
		if r.Next(&e) != nil {
			return n
		}
		if e.Step.In != nil {
			n++
		}
	}
}
