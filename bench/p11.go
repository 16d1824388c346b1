package main

import (
	"context"
	"os"
)

// binarySize is P11: the stripped binary with everything in it.
func binarySize(ctx context.Context, b *bed) (result, error) {
	path, err := b.sluice(ctx)
	if err != nil {
		return result{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return result{}, err
	}
	r := newResult("MiB", float64(info.Size())/(1<<20), 25, true)
	r.add("bytes", float64(info.Size()))
	return r, nil
}
