package admin

import (
	"net/http"
	"strconv"
	"time"
)

// Trailers of a stream: without them, or with an error in them, it is not whole.
const (
	trailerCount = "Sluice-Count"
	trailerError = "Sluice-Error"
)

// lineStream writes an answer of unknown length, a line at a time. A client that
// does not read for stallTimeout is dropped.
type lineStream struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	count uint64
	dated time.Time
}

func newStream(w http.ResponseWriter, contentType string) *lineStream {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Trailer", trailerCount+", "+trailerError)
	return &lineStream{w: w, rc: http.NewResponseController(w)}
}

// Write implements io.Writer.
func (s *lineStream) Write(p []byte) (int, error) {
	if now := time.Now(); now.Sub(s.dated) > time.Second {
		s.dated = now
		if err := s.rc.SetWriteDeadline(now.Add(stallTimeout)); err != nil {
			return 0, err
		}
	}
	return s.w.Write(p)
}

// line writes one line, which brings its line break.
func (s *lineStream) line(b []byte) error {
	if _, err := s.Write(b); err != nil {
		return err
	}
	s.count++
	return nil
}

// flush hands over what was written.
func (s *lineStream) flush() error { return s.rc.Flush() }

// end closes the stream; err goes to the client, which else would take what it
// has for all there is.
func (s *lineStream) end(err error) error {
	if err != nil {
		s.w.Header().Set(trailerError, strconv.Quote(err.Error()))
	}
	s.w.Header().Set(trailerCount, strconv.FormatUint(s.count, 10))
	return nil
}
