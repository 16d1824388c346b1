//go:build race

package derive

// raceDetector: everything takes ten times as long, and few runs show a race as
// well as many.
const raceDetector = true
