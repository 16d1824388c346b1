//go:build !race

package derive

const raceDetector = false
