package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/uplink"
)

// soon and imminent are how long ahead the page warns of something that ends: in
// time to order a new one, and once more when it must be done today.
const (
	soon     = 14 * 24 * time.Hour
	imminent = 24 * time.Hour
)

// expiryProblems warns of the certificates and tokens of an uplink that end soon
// or have ended.
func expiryProblems(snap Snapshot, u *uplink.Stats) (ps []Problem) {
	for _, e := range u.Expires {
		left := e.At.Sub(snap.At)
		p := Problem{Severity: Stuck, Cause: "it ends at " + e.At.UTC().Format("2006-01-02 15:04 UTC"),
			Do: "Put a new one in its place before that, or nothing is delivered from then on. If it is the receiver's, tell who runs it."}
		switch {
		case left <= 0:
			p.What = "Uplink " + u.Uplink + ": " + e.What + " has ended"
			p.Cause, p.Since = "it ended at "+e.At.UTC().Format("2006-01-02 15:04 UTC"), e.At
			p.Do = "Put a new one in its place. If it is the receiver's, tell who runs it. If it is not over yet, set this PC's clock."
		case left <= imminent:
			p.What = "Uplink " + u.Uplink + ": " + e.What + " ends in less than a day"
		case left <= soon:
			p.Severity = Doubtful
			p.What = fmt.Sprintf("Uplink %s: %s ends in %s", u.Uplink, e.What, count(int64(left/(24*time.Hour)), "day"))
		default:
			continue
		}
		ps = append(ps, p)
	}
	return ps
}

// shownCodes is how many codes a problem names; the API has all.
const shownCodes = 10

// codeProblem names the codes that an uplink's tables do not have.
func codeProblem(u *uplink.Stats) []Problem {
	n := uint64(len(u.Unmapped))
	if n == 0 {
		return nil
	}
	var named []string
	for _, c := range u.Unmapped[:min(shownCodes, len(u.Unmapped))] {
		named = append(named, fmt.Sprintf("%s %q (in %s)", strings.ReplaceAll(string(c.Kind), "_", " "), c.Code, count(c.Count, "event")))
	}
	text := strings.Join(named, ", ")
	if more := n - uint64(len(named)); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if u.UnmappedMore > 0 {
		text += "; there are so many that not all are kept, which looks like a wrong address of a tag"
	}
	return []Problem{{
		Severity: Doubtful, What: fmt.Sprintf("Uplink %s: its tables do not have %s", u.Uplink, count(n, "code")), Cause: text,
		Do: "Events go with such a code as it is, but for those that are named as held. Add the codes to the tables under codes: of this uplink, and start the gateway again.",
	}}
}

// expiryText is what the page shows of something that ends.
func expiryText(e uplink.Expiry, now time.Time) string {
	if left := e.At.Sub(now); left > 0 {
		return e.What + " ends in " + lasting(left)
	}
	return e.What + " has ended"
}
