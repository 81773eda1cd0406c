/* SPDX-License-Identifier: Apache-2.0
 *
 * Included before the sources of the ring: around each of their mappings lies memory that nobody may touch, so that an
 * access beyond it is the end, as AddressSanitizer makes it for the heap.
 */
#ifndef RINGFENCE_GUARDED_MEMORY_H
#define RINGFENCE_GUARDED_MEMORY_H

#include <sys/mman.h>

void *guarded_mmap(void *address, size_t size, int access, int flags, int fd, off_t offset);
int guarded_munmap(void *address, size_t size);

#ifndef RINGFENCE_UNGUARDED
#define mmap guarded_mmap
#define munmap guarded_munmap
#endif

#endif
