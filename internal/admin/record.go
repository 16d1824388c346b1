package admin

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/recording"
	"github.com/sluice-edge/sluice/plant"
)

// RecordRequest asks for recordings of machines, all if none is named; or for
// their end.
type RecordRequest struct {
	Machines []string `json:"machines,omitempty"`
	// Seconds is how long, Bytes how much room all recordings take together.
	Seconds int64 `json:"seconds,omitempty"`
	Bytes   int64 `json:"bytes,omitempty"`
}

// Recordings says what is being recorded, and where.
type Recordings struct {
	Folder   string            `json:"folder"`
	Machines []recording.Stats `json:"machines"`
	// Problem says why it is not known what was being recorded before the start.
	Problem string `json:"problem,omitempty"`
}

func recordingsOf(set *recording.Set) Recordings {
	all := Recordings{Folder: set.Folder(), Machines: set.Stats()}
	for _, f := range set.Failures() {
		if f.Machine == "" {
			all.Problem = f.Cause
		}
	}
	return all
}

func (q *RecordRequest) machines() (all []plant.MachineID) {
	for _, m := range q.Machines {
		all = append(all, plant.MachineID(m))
	}
	return all
}

// object names the machines for the audit log.
func (q *RecordRequest) object() string {
	if len(q.Machines) == 0 {
		return "all machines"
	}
	return strings.Join(q.Machines, " ")
}

// recorder refuses where no gateway runs: nobody reads the devices then.
func (s *Server) recorder() (*recording.Set, error) {
	if s.Recordings == nil {
		return nil, conflict("the gateway is stopped, so nothing can be recorded: start it, then record")
	}
	return s.Recordings, nil
}

func (s *Server) recordings(w http.ResponseWriter, _ *http.Request) error {
	set, err := s.recorder()
	if err != nil {
		return err
	}
	return answer(w, recordingsOf(set))
}

func (s *Server) startRecording(w http.ResponseWriter, r *http.Request) error {
	return s.changeRecording(w, r, "record", func(set *recording.Set, q *RecordRequest) (string, func() error) {
		lasts := time.Duration(q.Seconds) * time.Second
		return fmt.Sprintf("for %s, %d bytes", lasts, q.Bytes), func() error { return set.Start(q.machines(), lasts, q.Bytes) }
	})
}

func (s *Server) stopRecording(w http.ResponseWriter, r *http.Request) error {
	return s.changeRecording(w, r, "record.stop", func(set *recording.Set, q *RecordRequest) (string, func() error) {
		return "", func() error { return set.Stop(q.machines()) }
	})
}

func (s *Server) changeRecording(w http.ResponseWriter, r *http.Request, action string, plan func(*recording.Set, *RecordRequest) (detail string, do func() error)) error {
	var q RecordRequest
	if err := read(r, &q); err != nil {
		return err
	}
	set, err := s.recorder()
	if err != nil {
		return err
	}
	if q.Seconds > int64(recording.MaxFor/time.Second) {
		return badRequest("a recording lasts %d days at most", int(recording.MaxFor.Hours()/24))
	}
	detail, do := plan(set, &q)
	if err := s.change(peer(r), action, q.object(), detail, do); err != nil {
		return &requestError{http.StatusConflict, err.Error()}
	}
	return answer(w, recordingsOf(set))
}
