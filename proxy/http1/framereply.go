package http1

import "bytes"

// FrameReply sets Body and Length of a reply to a request with this method. Fields that frame a body which the
// status or the method excludes, or which another field frames, are not forwarded.
func (h *Head) FrameReply(method []byte) error {
	describes := string(method) == "HEAD" || h.Status == 304 // its Content-Length is that of another reply's body
	if describes || h.Status < 200 || h.Status == 204 || h.opensTunnel(method) {
		h.Body = NoBody
		// A connection on which a body may still come is not used again.
		h.Close = h.dropFields("transfer-encoding") || h.Close
		h.Close = h.dropLengths(describes) || h.Close
		return nil
	}
	if h.Get("transfer-encoding") != nil {
		return h.codedReply()
	}
	return h.sizedReply()
}

// sizedReply frames a reply without Transfer-Encoding.
func (h *Head) sizedReply() error {
	h.Body = UntilClose
	var length *field
	for i := range h.fields {
		f := &h.fields[i]
		if !equalFold(h.name(*f), "content-length") {
			continue
		}
		if length != nil && !bytes.Equal(h.value(*f), h.value(*length)) {
			return &StatusError{502, "the upstream's Content-Length is given more than once, with different values"}
		}
		if h.readLength(f, length != nil); h.Length < 0 {
			return &StatusError{502, "the upstream's Content-Length is not one number"}
		}
		length = f
		h.Body = Sized
		if h.Length == 0 {
			h.Body = NoBody
		}
	}
	return nil
}

// dropLengths marks the Content-Lengths of a reply without a body as not to be forwarded. Of equal ones, the first is: a 0, or
// where it describes another reply. It reports whether one of them announces a body, or they say several things.
func (h *Head) dropLengths(describes bool) (odd bool) {
	var length *field
	for i := range h.fields {
		f := &h.fields[i]
		if !equalFold(h.name(*f), "content-length") {
			continue
		}
		odd = odd || !describes && string(h.value(*f)) != "0" || length != nil && !bytes.Equal(h.value(*f), h.value(*length))
		if length == nil {
			length = f
			continue
		}
		f.drop, h.edited = true, true
	}
	return odd && h.dropFields("content-length")
}

// Tunnel reports whether bytes of another protocol follow this reply in both directions.
func (h *Head) Tunnel(method []byte) bool { return h.Status == 101 || h.opensTunnel(method) }

func (h *Head) opensTunnel(method []byte) bool {
	return string(method) == "CONNECT" && h.Status >= 200 && h.Status < 300
}

// codedReply frames a reply with Transfer-Encoding (RFC 9112, 6.3): Content-Length does not count, and only the
// last coding delimits. identity, which HTTP/1.1 no longer has, says nothing.
func (h *Head) codedReply() error {
	var last []byte
	codings, chunked := 0, 0
	for _, f := range h.fields {
		if !equalFold(h.name(f), "transfer-encoding") {
			continue
		}
		for coding := range bytes.SplitSeq(h.value(f), []byte(",")) {
			coding = bytes.Trim(coding, " \t")
			if len(coding) == 0 || equalFold(coding, "identity") {
				continue
			}
			last = coding
			if codings++; equalFold(coding, "chunked") {
				chunked++
			}
		}
	}
	switch {
	case chunked > 1 || chunked == 1 && !equalFold(last, "chunked"):
		return &StatusError{502, "the upstream's Transfer-Encoding names chunked twice, or not as the last"}
	case codings == 0:
		h.dropFields("transfer-encoding")
		return h.sizedReply()
	}
	h.dropFields("content-length")
	h.Body = UntilClose
	if chunked == 1 {
		h.Body = Chunked
	}
	return nil
}
