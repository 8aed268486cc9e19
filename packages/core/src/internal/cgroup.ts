/*
 * The limits of a container, as the kernel tells them. Reading files is the caller's: here is what they mean.
 */

/** Where a version of cgroups keeps its figures. @internal */
export interface Files {
  readonly version: 1 | 2
  readonly cpuUsage: string
  readonly cpuQuota: string
  readonly cpuPeriod: string | undefined
  readonly memoryLimit: string
}

/** The places of both versions, the newer first. @internal */
export const files: ReadonlyArray<Files> = [
  {
    version: 2,
    cpuUsage: "cpu.stat",
    cpuQuota: "cpu.max",
    cpuPeriod: undefined,
    memoryLimit: "memory.max"
  },
  {
    version: 1,
    cpuUsage: "cpuacct/cpuacct.usage",
    cpuQuota: "cpu/cpu.cfs_quota_us",
    cpuPeriod: "cpu/cpu.cfs_period_us",
    memoryLimit: "memory/memory.limit_in_bytes"
  }
]

const positive = (text: string | undefined): number | undefined => {
  const value = Number(text?.trim() || NaN)
  return Number.isFinite(value) && value > 0 ? value : undefined
}

/** Processor time used so far, in microseconds. @internal */
export const cpuMicros = (version: 1 | 2, text: string): number | undefined => {
  if (version === 2) return positive(/^usage_usec (\d+)/m.exec(text)?.[1])
  const nanos = positive(text)
  return nanos === undefined ? undefined : nanos / 1000
}

/** Processors that may be used at once, where there is a limit: version 2 has quota and period in one file. @internal */
export const cpuLimit = (quota: string, period: string | undefined): number | undefined => {
  const [first, second] = period === undefined ? quota.trim().split(/\s+/) : [quota, period]
  const limit = positive(first)
  const per = positive(second)
  return limit === undefined || per === undefined ? undefined : limit / per
}

/** Bytes that may be used, where there is a limit. Version 1 says a number beyond all memory where there is none. @internal */
export const memoryLimit = (text: string, total: number): number | undefined => {
  const limit = positive(text)
  return limit === undefined || limit >= total ? undefined : limit
}
