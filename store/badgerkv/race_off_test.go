//go:build !race

package badgerkv

const raceEnabled = false
