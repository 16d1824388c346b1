package line

import (
	"bytes"
	"fmt"
)

// framer cuts what comes into lines. It holds at most one line, of maxLine bytes.
type framer struct {
	start, end string
	maxLine    int

	held []byte
	// inside is set since a start sign; without one it always is.
	inside bool
	// tooLong is set while the rest of a line that is too long is read over.
	tooLong bool
	// broken is set since a line was given up half: what comes up to the next end
	// may be its rest, and so is no line. Behind a start sign nothing is in doubt.
	broken bool
	// stray counts bytes outside of a start and an end sign since the last line.
	stray int
}

// found is a line, or why what came is none.
type found struct {
	raw string
	// problem is empty for a line.
	problem string
}

func newFramer(o *Options) *framer {
	return &framer{start: o.Start.text, end: o.End.text, maxLine: o.MaxLine, inside: o.Start.text == ""}
}

// feed takes what came and gives each line that is whole now to emit.
func (f *framer) feed(b []byte, emit func(found)) {
	for _, c := range b {
		f.take(c, emit)
	}
}

func (f *framer) take(c byte, emit func(found)) {
	if f.end == "" && (c == '\r' || c == '\n') {
		f.whole(len(f.held), emit)
		return
	}
	if f.tooLong {
		// Only as much is kept as shows the next sign.
		keep := max(len(f.start), len(f.end), 1) - 1
		f.held = append(f.held[max(0, len(f.held)-keep):], c)
	} else {
		f.held = append(f.held, c)
	}
	switch {
	case f.start != "" && bytes.HasSuffix(f.held, []byte(f.start)):
		if before := len(f.held) - len(f.start); f.inside && (before > 0 || f.tooLong) {
			f.report(found{raw: string(f.held[:before]), problem: "a new line began before it had ended"}, emit)
		} else {
			f.stray += before
		}
		f.held, f.inside, f.tooLong = f.held[:0], true, false
	case f.end != "" && bytes.HasSuffix(f.held, []byte(f.end)):
		f.whole(len(f.held)-len(f.end), emit)
	case !f.tooLong && len(f.held) > f.maxLine+len(f.end):
		f.tooLong = true
		if f.inside {
			emit(found{raw: string(f.held[:f.maxLine]), problem: fmt.Sprintf("it is longer than %d bytes (max_line)", f.maxLine)})
		} else {
			f.stray += len(f.held)
		}
	}
}

// whole ends the line that is held, of so many bytes.
func (f *framer) whole(n int, emit func(found)) {
	line, long, inside := f.held[:n], f.tooLong, f.inside
	defer func() { f.held, f.tooLong, f.inside, f.broken = f.held[:0], false, f.start == "", false }()
	switch {
	case long: // said when it was found too long
	case !inside:
		f.stray += n
	case len(line) > f.maxLine:
		emit(found{raw: string(line[:f.maxLine]), problem: fmt.Sprintf("it is longer than %d bytes (max_line)", f.maxLine)})
	case len(line) > 0 && f.broken:
		emit(found{raw: string(line), problem: "it may be the rest of the one before, whose end did not come in time"})
	case len(line) > 0 || f.start != "":
		f.report(found{raw: string(line)}, emit)
	}
}

// report gives a line, unless it was said already that it is too long.
func (f *framer) report(l found, emit func(found)) {
	if !f.tooLong {
		emit(l)
	}
}

// rest gives up the line that is held because no more of it comes.
func (f *framer) rest(problem string, emit func(found)) {
	if f.pending() && f.inside && !f.tooLong {
		emit(found{raw: string(f.held), problem: problem})
	}
	f.broken = f.start == "" && (f.broken || f.pending())
	f.held, f.tooLong, f.inside = f.held[:0], false, f.start == ""
}

// pending reports whether part of a line is held.
func (f *framer) pending() bool { return len(f.held) > 0 || f.start != "" && f.inside }

// strays returns how many bytes came outside of lines since it was last asked.
func (f *framer) strays() int {
	n := f.stray
	f.stray = 0
	return n
}
