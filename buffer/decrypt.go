package buffer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"hash/crc32"
	"path/filepath"

	"github.com/dgraph-io/badger/v4/fb"
)

// dataKeys are the keys that Badger has drawn for the tables and logs of an
// encrypted store, by their numbers. There are none for a plain store.
type dataKeys map[uint64]cipher.Block

// plainFile returns what a table or a log would be if the store were not
// encrypted, of what is damaged as much as can be read, and whether any of it
// could. id is the number of the key that it is said to be encrypted with; where
// that key opens nothing the others are tried, for the number may be damaged.
func (k dataKeys) plainFile(name string, data []byte, id uint64) (plain []byte, ok bool) {
	read := plainTable
	if filepath.Ext(name) != tableExt {
		if data = trimZeros(data); len(data) <= logHeaderSize {
			return bytes.Clone(data), true // nothing was written yet
		}
		read, id = plainLog, binary.BigEndian.Uint64(data)
	}
	if key, found := k[id]; found {
		if plain, ok = read(data, key); ok {
			return plain, true
		}
	}
	for other, key := range k {
		if other == id {
			continue
		}
		if plain, ok = read(data, key); ok {
			return plain, true
		}
	}
	return bytes.Clone(data), false
}

// plainLog decrypts a log (badger/memtable.go, encodeEntry and generateIV): its
// head holds 12 bytes of an initialisation vector, an entry's place in the file is
// the rest of it; key and value are encrypted, the lengths before them are not, and
// the checksum is over what is encrypted.
func plainLog(data []byte, key cipher.Block) (plain []byte, ok bool) {
	// Zeros at the end of the last checksum were cut off.
	plain = append(bytes.Clone(data), make([]byte, crc32.Size)...)
	var iv [aes.BlockSize]byte
	copy(iv[:], data[logHeaderSize-12:logHeaderSize])
	// Nothing of a plain log names a key.
	clear(plain[:logHeaderSize-12])
	known, strange := 0, 0
	for at := logHeaderSize; at < len(data); {
		e, whole := nextLogEntry(data, at)
		if e.size > 0 {
			binary.BigEndian.PutUint32(iv[12:], uint32(at))
			end := at + e.valueAt + e.valueSize
			content := plain[at+e.valueAt-len(e.key) : end]
			cipher.NewCTR(key, iv[:]).XORKeyStream(content, data[at+e.valueAt-len(e.key):end])
			if whole {
				if knownKey(content) {
					known++
				} else {
					strange++
				}
				binary.BigEndian.PutUint32(plain[end:], crc32.Checksum(plain[at:end], castagnoli))
			}
		}
		if !whole {
			// One that is damaged is decrypted as far as its lengths say, for its events
			// are looked for byte by byte.
			if e.size > 0 && at+e.size < len(data) {
				if _, next := nextLogEntry(data, at+e.size); next {
					at += e.size
					continue
				}
			}
			if at = nextMarker(data, at+1); at < 0 {
				break
			}
			continue
		}
		at += e.size
	}
	// The checksums hold with any key.
	return plain, known > 0 && strange == 0
}

// knownKey reports whether a key begins as ours or Badger's own do.
func knownKey(key []byte) bool {
	return len(key) > 1 && key[0] == keyLayout && key[1] >= 'a' && key[1] <= 'z' ||
		bytes.HasPrefix(key, formatKey) || bytes.HasPrefix(key, []byte("!badger!"))
}

// plainTable decrypts a table (badger/table/builder.go): each block and the index
// end with the initialisation vector that they are encrypted with. The index's
// checksum is over what is encrypted, a block's over what is not. Where the index
// is damaged the blocks are found one behind the other.
func plainTable(data []byte, key cipher.Block) (plain []byte, ok bool) {
	plain = bytes.Clone(data)
	good := 0
	index, at := tableIndex(data)
	if index == nil {
		walkBlocks(data, plain, key, &good)
		return plain, good > 0
	}
	if !plainBlocks(data, plain, index, at, key, &good) {
		return nil, false
	}
	// What follows the index as builder.go, Done, has it.
	length := len(index) - aes.BlockSize
	sum := appendUvarints([]byte{2 << 3}, uint64(crc32.Checksum(plain[at:at+length], castagnoli)))
	plain = binary.BigEndian.AppendUint32(plain[:at+length], uint32(length))
	plain = append(plain, sum...)
	plain = binary.BigEndian.AppendUint32(plain, uint32(len(sum)))
	return plain, good > 0
}

// tableIndex returns the index of a table as it stands in it, and where; nil where
// its checksum is wrong.
func tableIndex(data []byte) (index []byte, at int) {
	rest := data
	cut := func(n uint32) []byte {
		if uint64(n) > uint64(len(rest)) {
			rest = nil
			return nil
		}
		part := rest[len(rest)-int(n):]
		rest = rest[:len(rest)-int(n)]
		return part
	}
	length := func() uint32 {
		if b := cut(4); b != nil {
			return binary.BigEndian.Uint32(b)
		}
		return 0
	}
	sum, ok := tableSum(cut(length()))
	index = cut(length())
	if !ok || len(index) <= aes.BlockSize || sum != uint64(crc32.Checksum(index, castagnoli)) {
		return nil, 0
	}
	return index, len(rest)
}

// plainBlocks decrypts into plain the index, which stands at at, and the blocks
// that it lists, and counts those whose checksum is right. It returns false where
// the key does not open the index.
func plainBlocks(data, plain, index []byte, at int, key cipher.Block, good *int) (ok bool) {
	defer func() {
		if recover() != nil { // flatbuffers panic on what is none
			ok = false
		}
	}()
	clear0 := decryptTail(plain[at:], index, key)
	root := fb.GetRootAsTableIndex(clear0, 0)
	n := root.OffsetsLength()
	if n == 0 || n > len(data)/aes.BlockSize {
		return false
	}
	var offset fb.BlockOffset
	for i := range n {
		if !root.Offsets(&offset, i) {
			return false
		}
		begin, size := int(offset.Offset()), int(offset.Len())
		if size <= aes.BlockSize || begin+size > at {
			return false
		}
		block := decryptTail(plain[begin:], data[begin:begin+size], key)
		if !offset.MutateLen(uint32(len(block))) {
			return false
		}
		if blockIsGood(block) {
			*good++
		}
	}
	return true
}

// decryptTail decrypts data, whose last bytes are the vector, into dst.
func decryptTail(dst, data []byte, key cipher.Block) []byte {
	n := len(data) - aes.BlockSize
	cipher.NewCTR(key, data[n:]).XORKeyStream(dst[:n], data[:n])
	return dst[:n:n]
}

// blockIsGood verifies a block: its last bytes are its checksum and that one's
// length.
func blockIsGood(block []byte) bool {
	if len(block) < 4 {
		return false
	}
	end := len(block) - 4
	n := binary.BigEndian.Uint32(block[end:])
	if n > uint32(end) {
		return false
	}
	content := block[:end-int(n)]
	sum, ok := tableSum(block[end-int(n) : end])
	return ok && sum == uint64(crc32.Checksum(content, castagnoli))
}

// maxBlockSum is more than a block's checksum takes; maxBlock more than a block
// that holds one record of ours.
const (
	maxBlockSum = 16
	maxBlock    = 1 << 20
)

// walkBlocks decrypts the blocks at the beginning of a table without its index:
// where one ends is where the bytes before open what precedes them. It stops at
// the first that it does not find.
func walkBlocks(data, plain []byte, key cipher.Block, good *int) {
	var stream, iv [aes.BlockSize]byte
	for begin := 0; ; {
		found := false
		for end := begin + 2*aes.BlockSize; end <= min(len(data), begin+maxBlock); end++ {
			// Only the last 4 bytes first: they hold the length of the checksum.
			n := end - aes.BlockSize - begin
			copy(iv[:], data[end-aes.BlockSize:end])
			var last [4]byte
			for i := range last {
				at := n - len(last) + i
				if i == 0 || at%aes.BlockSize == 0 {
					counter := iv
					addCounter(&counter, uint32(at/aes.BlockSize))
					key.Encrypt(stream[:], counter[:])
				}
				last[i] = data[begin+at] ^ stream[at%aes.BlockSize]
			}
			if binary.BigEndian.Uint32(last[:]) > maxBlockSum {
				continue
			}
			block := make([]byte, n)
			if decryptTail(block, data[begin:end], key); !blockIsGood(block) {
				continue
			}
			copy(plain[begin:], block)
			begin, found = end, true
			*good++
			break
		}
		if !found {
			return
		}
	}
}

// addCounter adds n to the counter of AES-CTR, a big-endian number of 16 bytes.
func addCounter(counter *[aes.BlockSize]byte, n uint32) {
	low := binary.BigEndian.Uint64(counter[8:])
	binary.BigEndian.PutUint64(counter[8:], low+uint64(n))
	if low+uint64(n) < low {
		binary.BigEndian.PutUint64(counter[:], binary.BigEndian.Uint64(counter[:])+1)
	}
}
