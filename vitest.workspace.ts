/** The test projects. */
export default ["packages/*"]
