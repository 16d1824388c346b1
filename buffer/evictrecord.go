package buffer

import "fmt"

// A thin record says up to where the kinds that go first are evicted, and how
// many bytes that were, of what is kept otherwise.
func appendThinRecord(dst, key []byte, thin *position, gone int64, k *kinds) []byte {
	at := len(dst)
	dst = appendPosition(appendEnvelope(dst), thin, k)
	dst = appendUvarints(dst, uint64(gone))
	seal(dst, at, key, envelopeSize)
	return dst
}

func decodeThinRecord(key, record []byte, k *kinds) (thin position, gone int64, err error) {
	body, err := opaque(key, record)
	if err != nil {
		return position{}, 0, err
	}
	f := fields{rest: body}
	thin, gone = f.position(k), int64(f.uvarint())
	if err := f.err("thin mark"); err != nil {
		return position{}, 0, fmt.Errorf("read the thin mark: %w", err)
	}
	return thin, gone, nil
}
