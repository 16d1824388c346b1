package httplink

import (
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/sluice-edge/sluice/plant"
)

const (
	// waitKey is where an uplink's memory has a receiver's Retry-After.
	waitKey = "retry_after"
	// keptFrom is the shortest wait that is kept over a restart, which takes a
	// few seconds itself: a rate limit of everyday costs no write to the disk.
	keptFrom = 5 * time.Second
)

// keptWait is a receiver's wish to be left alone as it is kept, so that a
// gateway that restarts again and again does not ask it each time.
type keptWait struct {
	// URL is whose wish it is: another receiver has not asked for anything.
	URL     string    `json:"url"`
	Status  int       `json:"status"`
	Asked   time.Time `json:"asked"`
	Seconds int64     `json:"seconds"`
}

// KeepWait returns what a Result has to Put, so that the wish of the receiver at to
// not to be called for that long outlives the process; nil if that is not worth it.
// Nothing secret of to is kept.
func KeepWait(to *url.URL, status int, wait time.Duration) []plant.KV {
	if wait < keptFrom {
		return nil
	}
	value, err := json.Marshal(keptWait{Show(to), status, time.Now().UTC(), int64((wait + time.Second - 1) / time.Second)})
	if err != nil {
		panic(err) // text, numbers and a time of this century always have a JSON form
	}
	return []plant.KV{{Key: waitKey, Value: value}}
}

// WaitBefore is a receiver's wish from before the gateway was started.
type WaitBefore struct {
	// Left is how long it must still be left alone; it may be asked if that is not
	// above zero.
	Left   time.Duration
	status int
	end    time.Time
}

// RecallWait reads what KeepWait has kept for the receiver at to. Its time is the
// wall clock's, which may have been set since: no wait is longer than the receiver
// asked for. An error is that of the memory; what is damaged is no wish.
func RecallWait(memory func(key string) ([]byte, error), to *url.URL) (WaitBefore, error) {
	value, err := memory(waitKey)
	if err != nil {
		return WaitBefore{}, fmt.Errorf("read when the receiver may be asked: %w", err)
	}
	var kept keptWait
	if value == nil || json.Unmarshal(value, &kept) != nil || kept.URL != Show(to) {
		return WaitBefore{}, nil
	}
	asked := time.Duration(min(max(kept.Seconds, 0), int64(MaxWait/time.Second))) * time.Second
	end := kept.Asked.Add(asked)
	return WaitBefore{min(time.Until(end), asked), kept.Status, end}, nil
}

// Words says what who, the receiver, has asked for.
func (w WaitBefore) Words(who string) string {
	return fmt.Sprintf("before the gateway was started, %s answered %s and asked not to be called before %s", who, Title(w.status), w.end.UTC().Format("2006-01-02 15:04:05 UTC"))
}
