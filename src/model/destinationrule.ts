// What Istio's schema cannot say about a DestinationRule.
import type { Findings, World } from './findings.ts'
import { isLabelValue, nameFault, serviceOf } from './name.ts'
import type { DestinationRule, TrafficPolicy } from './resource.ts'
import type { Path } from './text.ts'
import { checkDuration, checkHost } from './virtualservice.ts'

const balancers: readonly string[] = ['LEAST_REQUEST', 'ROUND_ROBIN', 'RANDOM']

export function checkDestinationRule(rule: DestinationRule, world: World, findings: Findings): void {
  const host = checkHost(rule.spec.host, ['spec', 'host'], rule.metadata.namespace, findings)
  if (host !== null) checkRivals(rule, host, world, findings)
  checkPolicy(rule.spec.trafficPolicy, ['spec', 'trafficPolicy'], findings)
  const seen = new Set<string>()
  for (const [index, subset] of (rule.spec.subsets ?? []).entries()) {
    const path = ['spec', 'subsets', index]
    // The schema lets the name be absent.
    const name = (subset.name as string | undefined) ?? ''
    const fault = nameFault(name)
    if (fault !== null) findings.error([...path, 'name'], name === '' ? 'is missing' : `"${name}" ${fault}`)
    if (seen.has(name)) findings.error([...path, 'name'], `"${name}" is written twice`)
    seen.add(name)
    const labels = Object.entries(subset.labels ?? {})
    if (labels.length === 0) {
      findings.warn(path, 'has no labels: it holds every instance', 'add labels: {version: …}')
    }
    for (const [key, value] of labels) {
      if (!isLabelValue(value)) findings.error([...path, 'labels', key], `"${value}" is no label value`)
    }
    checkPolicy(subset.trafficPolicy, [...path, 'trafficPolicy'], findings)
  }
}

function checkRivals(rule: DestinationRule, host: string, world: World, findings: Findings): void {
  for (const other of world.resources) {
    if (other.kind !== 'DestinationRule') continue
    const { name, namespace } = other.metadata
    if (name === rule.metadata.name && namespace === rule.metadata.namespace) continue
    const service = serviceOf(other.spec.host, namespace)
    if (service !== null && `${service.service}.${service.namespace}` === host) {
      findings.warn(['spec', 'host'], `DestinationRule ${namespace}/${name} is for the same host`)
    }
  }
}

function checkPolicy(policy: TrafficPolicy | undefined, path: Path, findings: Findings): void {
  if (policy === undefined) return
  const simple: string | undefined = policy.loadBalancer?.simple
  if (simple !== undefined && !balancers.includes(simple)) {
    const hint = simple === 'LEAST_CONN' ? 'Istio renamed it LEAST_REQUEST' : `one of ${balancers.join(', ')}`
    findings.error([...path, 'loadBalancer', 'simple'], `${simple} is not honoured yet`, hint)
  }
  const pool = policy.connectionPool
  const at = [...path, 'connectionPool']
  checkDuration(pool?.tcp?.connectTimeout, [...at, 'tcp', 'connectTimeout'], 1, findings)
  checkCount(pool?.tcp?.maxConnections, [...at, 'tcp', 'maxConnections'], findings)
  checkCount(pool?.http?.http1MaxPendingRequests, [...at, 'http', 'http1MaxPendingRequests'], findings)
  const outlier = policy.outlierDetection
  const out = [...path, 'outlierDetection']
  checkDuration(outlier?.baseEjectionTime, [...out, 'baseEjectionTime'], 1, findings)
  checkCount(outlier?.consecutive5xxErrors, [...out, 'consecutive5xxErrors'], findings)
  checkCount(outlier?.consecutiveGatewayErrors, [...out, 'consecutiveGatewayErrors'], findings)
  const percent = outlier?.maxEjectionPercent
  if (percent !== undefined && (percent < 0 || percent > 100)) {
    findings.error([...out, 'maxEjectionPercent'], 'must be from 0 to 100')
  }
}

function checkCount(count: number | undefined, path: Path, findings: Findings): void {
  if (count !== undefined && count < 0) findings.error(path, 'must not be negative')
}
