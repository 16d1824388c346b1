package status

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/buffer"
	"github.com/sluice-edge/sluice/plant"
)

// deadPage is how many dead letters a page shows, deadDefault and deadMost how
// many a program gets at once.
const (
	deadPage    = 100
	deadDefault = 200
	deadMost    = 1000
)

// deadDoc is the answer of /api/v1/dead.
type deadDoc struct {
	DeadLetters []letterDoc `json:"dead_letters"`
	// More is set if there are more than were asked for.
	More bool `json:"more"`
}

type letterDoc struct {
	Uplink   string          `json:"uplink"`
	Machine  string          `json:"machine"`
	Sequence uint64          `json:"sequence"`
	First    uint64          `json:"first"`
	ID       string          `json:"id,omitempty"`
	Kind     string          `json:"kind,omitempty"`
	Time     instant         `json:"time"`
	Refused  instant         `json:"refused"`
	Cause    string          `json:"cause,omitempty"`
	Damaged  string          `json:"damaged,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
}

// letters reads dead letters, at most so many, of one uplink or of all.
func (s *Server) letters(r *http.Request, q url.Values, snap *Snapshot, most int) (doc deadDoc, err error) {
	if err := onlyKeys(q, func(key string) bool { return slices.Contains([]string{"uplink", "machine", "limit"}, key) }); err != nil {
		return doc, err
	}
	doc.DeadLetters = []letterDoc{}
	var names []string
	for _, queue := range snap.Buffer.Queues {
		if name := q.Get("uplink"); (name == "" || name == queue.Uplink) && queue.DeadLetters > 0 {
			names = append(names, queue.Uplink)
		}
	}
	for _, name := range names {
		all, err := s.options.Desk.DeadLetters(r.Context(), name, plant.MachineID(q.Get("machine")))
		if err != nil {
			return doc, err
		}
		for d, err := range all {
			if err != nil && d.Event.Sequence == 0 {
				return doc, fmt.Errorf("%w: %w", errRead, err)
			}
			if len(doc.DeadLetters) == most {
				doc.More = true
				return doc, nil
			}
			doc.DeadLetters = append(doc.DeadLetters, newLetter(&d, err))
		}
	}
	return doc, nil
}

func newLetter(d *buffer.DeadLetter, damaged error) letterDoc {
	l := letterDoc{Uplink: d.Uplink, Machine: string(d.Event.Machine), Sequence: uint64(d.Event.Sequence), First: uint64(d.First)}
	if damaged != nil {
		l.Damaged = damaged.Error()
		return l
	}
	l.ID, l.Kind, l.Cause = d.Event.ID().String(), string(d.Event.Kind), d.Cause
	l.Time, l.Refused = instant(d.Event.Time), instant(d.Refused)
	if json.Valid(d.Event.Data) {
		l.Data = d.Event.Data
	}
	return l
}

// serveDead answers programs.
func (s *Server) serveDead(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, err := numberIn(q, "limit", deadDefault, 1, deadMost)
	if err != nil {
		s.refuse(w, err)
		return
	}
	snap := s.source.Snapshot()
	doc, err := s.letters(r, q, &snap, int(limit))
	if err != nil {
		s.refuse(w, err)
		return
	}
	answer(w, doc)
}

// deadPageDoc is what the template of the dead letters shows.
type deadPageDoc struct {
	head
	Uplinks, Machines []choice
	Letters           []letterCard
	Nothing, More     string
}

// letterCard is one dead letter, in words, with what to type.
type letterCard struct {
	Name, Kind, Refused, Cause, Data string
	Show, Retry, Drop                string
}

// serveDeadPage shows what receivers have refused. It changes nothing: there is
// no login that would say who did it.
func (s *Server) serveDeadPage(w http.ResponseWriter, r *http.Request) {
	snap := s.source.Snapshot()
	q := r.URL.Query()
	doc := deadPageDoc{head: s.head("Dead letters", "/dead", &snap)}
	doc.Uplinks, doc.Machines = choices(snap.uplinkNames(), q.Get("uplink")), choices(snap.machineNames(), q.Get("machine"))
	letters, err := s.letters(r, q, &snap, deadPage)
	status := doc.failed(err)
	c := clock{snap.At, s.options.Location}
	for i := range letters.DeadLetters {
		doc.Letters = append(doc.Letters, newLetterCard(&letters.DeadLetters[i], c))
	}
	switch {
	case letters.More:
		doc.More = fmt.Sprintf("Only the first %d are shown; sluice events dead list shows all.", deadPage)
	case len(doc.Letters) == 0 && err == nil:
		doc.Nothing = "Nothing was refused."
	}
	s.show(w, status, "dead", doc)
}

func newLetterCard(l *letterDoc, c clock) letterCard {
	name := fmt.Sprintf("%s/%d", l.Machine, l.Sequence)
	card := letterCard{Name: l.Uplink + " · " + name, Kind: l.Kind, Refused: c.ago(time.Time(l.Refused)), Cause: l.Cause, Data: string(l.Data)}
	of := " --uplink " + shellWord(l.Uplink)
	card.Show = "sluice events dead show" + of + " " + shellWord(name)
	card.Drop = "sluice events dead drop" + of + ` --reason "…" ` + shellWord(name)
	if l.Damaged != "" {
		card.Cause, card.Show = "The record is damaged and can only be dropped: "+l.Damaged, ""
		return card
	}
	card.Retry = "sluice events dead retry" + of + " " + shellWord(name)
	return card
}

// shellWord quotes a word for a shell where it needs that.
func shellWord(word string) string {
	plain := func(r rune) bool {
		return r == '-' || r == '_' || r == '.' || r == '/' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	if strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
