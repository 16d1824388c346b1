package plant

import (
	"errors"
	"fmt"
	"time"
)

// Correction is a change that somebody enters later: pieces that were counted as
// good are scrap, or the other way round, or a stock is not what the books of
// material say. It changes no count.
type Correction struct {
	At time.Time
	// From and To are the interval in which the pieces were made.
	From, To time.Time
	// Good, Scrap and Rework are what is to be added to what was counted. They add
	// up to 0 unless Pieces is set.
	Good, Scrap, Rework int64
	// Pieces says that there were more or fewer pieces than were counted.
	Pieces bool
	// Code is the code of the scrap; required where Scrap is not 0.
	Code string
	// Material is set where it is not pieces that are corrected but what the books
	// of material say; the counts are 0 then.
	Material *MaterialCorrection
	// Reason says why, By who; By is required.
	Reason, By string
	// Order is the order that the pieces belong to; nil means the one that the
	// machine worked on at To, as far as the rules remember it.
	Order *Order
}

// MaterialCorrection is by how much a stock was found to differ from the books,
// by a stocktaking for example: above 0 for more than there should be.
type MaterialCorrection struct {
	Component string  `json:"component"`
	Lot       string  `json:"lot,omitempty"`
	Location  string  `json:"location,omitempty"`
	Quantity  Decimal `json:"quantity"`
	Unit      string  `json:"unit"`
}

// mostCorrected is far more pieces than anybody corrects, and little enough for
// any sum of them.
const mostCorrected = 1_000_000_000

// Validate says in one error all that is wrong with c.
func (c Correction) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	outside := func(n int64) bool { return n > mostCorrected || n < -mostCorrected }
	sum := c.Good + c.Scrap + c.Rework
	fault(outside(c.Good) || outside(c.Scrap) || outside(c.Rework), "more than %d pieces are no correction", mostCorrected)
	nothing := c.Good == 0 && c.Scrap == 0 && c.Rework == 0
	if m := c.Material; m != nil {
		fault(!nothing, "it corrects pieces and material at once: enter one correction for each")
		fault(m.Component == "" || m.Unit == "", "it corrects material without saying of which component, or in which unit")
		fault(m.Quantity.IsZero(), "it changes nothing: the quantity is 0")
	} else {
		fault(nothing, "it changes nothing: good, scrap and rework are all 0")
	}
	fault(sum != 0 && !c.Pieces, "good %+d, scrap %+d and rework %+d add up to %+d pieces, not to 0: correct one of them, or set pieces if the machine made another number than was counted",
		c.Good, c.Scrap, c.Rework, sum)
	fault(sum == 0 && c.Pieces, "pieces is set, but good, scrap and rework add up to 0: no piece more or fewer was made")
	fault(c.Scrap != 0 && c.Code == "", "it changes scrap without saying of which code")
	fault(c.Scrap == 0 && c.Code != "", "it names the scrap code %q and changes no scrap", c.Code)
	fault(c.By == "", "it does not say who corrects")
	fault(c.From.IsZero() || c.To.IsZero(), "it does not say from when to when the pieces were made")
	fault(!c.From.IsZero() && c.To.Before(c.From), "it ends at %s, before it begins at %s", c.To.UTC().Format(time.RFC3339), c.From.UTC().Format(time.RFC3339))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the correction is refused: %w", err)
	}
	return nil
}

// When implements Input.
func (c Correction) When() time.Time { return c.At }

// CorrectionEvent is the data of a KindCorrection event: a later change of
// quality of pieces that were counted. Good, Scrap and Rework are deltas with a
// sign, which a receiver adds to what it has; cumulative counts stay as they are.
type CorrectionEvent struct {
	Head
	Good   int64 `json:"good"`
	Scrap  int64 `json:"scrap"`
	Rework int64 `json:"rework"`
	// Pieces is set if their sum is not 0: the machine made another number of
	// pieces than was counted.
	Pieces bool `json:"pieces,omitempty"`
	// Material is set where it is not pieces that are corrected.
	Material *MaterialCorrection `json:"material,omitempty"`
	From     time.Time           `json:"from"`
	To       time.Time           `json:"to"`
	Code     string              `json:"code,omitempty"`
	Reason   string              `json:"reason,omitempty"`
	By       string              `json:"by"`
}
