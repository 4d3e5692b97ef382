package cmq

import "time"

// SetTimeouts changes how long a body may take to arrive and a reply to be taken. Call it before the first request.
func (h *Handler) SetTimeouts(body, reply time.Duration) { h.bodyTimeout, h.replyTimeout = body, reply }
