/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * stream.h - frames out of a byte stream, for the agent and the callers
 *
 * A stream is never trusted: a header that is none is passed over up to the
 * next magic number, and the sender is told how many bytes that cost.
 */
#ifndef STREAM_H
#define STREAM_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wire.h"

struct stream {
	unsigned char *bytes;
	size_t start;		/* first byte not yet consumed */
	size_t end;		/* behind the last byte */
	size_t room;
};

static inline void *must(void *memory)
{
	if (!memory)
		_exit(120);	/* the host reports the wait status */
	return memory;
}

/* Make room for @more bytes behind end. */
static inline void stream_reserve(struct stream *s, size_t more)
{
	if (s->start) {
		memmove(s->bytes, s->bytes + s->start, s->end - s->start);
		s->end -= s->start;
		s->start = 0;
	}
	if (s->room - s->end < more) {
		s->room = s->end + more;
		s->bytes = must(realloc(s->bytes, s->room));
	}
}

static inline void stream_add(struct stream *s, const void *bytes, size_t length)
{
	if (!length)
		return;
	stream_reserve(s, length);
	memcpy(s->bytes + s->end, bytes, length);
	s->end += length;
}

enum stream_take {
	STREAM_MORE,		/* not a whole frame yet */
	STREAM_FRAME,		/* *header and *payload are set */
	STREAM_JUNK,		/* *junk says what was passed over */
};

/*
 * Take the next frame.  *payload stays valid until the stream is added to.
 */
static inline enum stream_take stream_take(struct stream *s,
					   struct wire_header *header,
					   const unsigned char **payload,
					   struct wire_refusal *junk)
{
	static const uint32_t magic = WIRE_MAGIC;
	size_t have = s->end - s->start;
	size_t skip = 0;

	if (have < sizeof(*header))
		return STREAM_MORE;
	memcpy(header, s->bytes + s->start, sizeof(*header));
	junk->code = 0;
	if (header->magic != WIRE_MAGIC)
		junk->code = WIRE_E_MAGIC;
	else if (header->length > WIRE_MAX_PAYLOAD)
		junk->code = WIRE_E_LENGTH;
	if (junk->code) {
		for (skip = 1; skip + sizeof(magic) <= have; skip++)
			if (!memcmp(s->bytes + s->start + skip, &magic, sizeof(magic)))
				break;
		s->start += skip;
		junk->value = skip;
		return STREAM_JUNK;
	}
	if (have - sizeof(*header) < header->length)
		return STREAM_MORE;
	*payload = s->bytes + s->start + sizeof(*header);
	s->start += sizeof(*header) + header->length;
	return STREAM_FRAME;
}

static inline void stream_put(struct stream *s, const struct wire_header *re,
			      unsigned int type, const void *payload, size_t length)
{
	struct wire_header header = {
		.magic = WIRE_MAGIC,
		.length = length,
		.type = type,
		.channel = re->channel,
		.seq = re->seq,
	};

	stream_add(s, &header, sizeof(header));
	stream_add(s, payload, length);
}

/* Write what is queued; with @block until all of it is gone.  False: closed. */
static inline bool stream_flush(struct stream *s, int fd, bool block)
{
	while (s->start < s->end) {
		ssize_t n = write(fd, s->bytes + s->start, s->end - s->start);

		if (n > 0) {
			s->start += n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return false;
		if (!block)
			return true;
		poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
	}
	s->start = 0;
	s->end = 0;
	return true;
}

/* Read what there is.  False: closed. */
static inline bool stream_fill(struct stream *s, int fd)
{
	ssize_t n;

	stream_reserve(s, 65536);
	n = read(fd, s->bytes + s->end, 65536);
	if (n > 0)
		s->end += n;
	else if (n == 0 || (errno != EINTR && errno != EAGAIN))
		return false;
	return true;
}

#endif /* STREAM_H */
