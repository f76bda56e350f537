import { setTimeout as sleep } from 'node:timers/promises'

/** Bounds of the wait between two dials, in milliseconds. */
const FLOOR_MS = 200
const CEILING_MS = 10_000

/**
 * Full jitter: a uniformly random wait between the floor and a cap that
 * doubles with each failure, so that a restarted server meets its agents one
 * by one.
 *
 * @param failures dials that failed in a row
 * @param random from 0 (inclusive) to 1 (exclusive)
 */
export function jitteredDelayMs(failures: number, random: number): number {
  const cap = Math.min(CEILING_MS, FLOOR_MS * 2 ** (Math.min(failures, 30) + 1))
  return FLOOR_MS + random * (cap - FLOOR_MS)
}

/** Waits; returns early, without an error, when the signal fires. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal })
  } catch (error) {
    if (!signal.aborted) {
      throw error
    }
  }
}
