/** The one version of CLI, agent, proxy and control. */
export const version: string = '0.1.0'
