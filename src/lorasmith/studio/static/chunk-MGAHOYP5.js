import{l as n}from"./chunk-RUCDK4WP.js";var l=n(null);export{l as a};
